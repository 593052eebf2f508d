#pragma once
// What is left of a stretch, settled in token order, block by block.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/inherit.hpp"
#include "cascada/cpu/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// The tokens of a stretch that are not settled, in order. Rows of those compared so far are at the places from
/// `row` to `rows_end`, in order.
template <cpu_backend B>
struct open_tokens {
  index_t token[stretch_tokens];
  index_t count = 0, next = 0;
  index_t row = 0, rows_end = 0;
};

/// Products among the tokens at `count` places of the block: each with those before it.
template <class Products, row_scalar Scalar, cpu_backend B, executor Executor>
void gram_of_block(selection_pass<Scalar, B>& pass, Products& way, index_t count, const Executor& where) {
  constexpr index_t width = strip_width<B>, height = Products::height;
  block_gram<B>&    gram  = pass.gram;
  packed_rows<B>&   block = pass.memory.block;
  index_t           places[block_tokens] = {}, slots[block_tokens] = {};  // g++ 12 does not see that they are written
  for (index_t s = 0; s < count; ++s)
    places[s] = stretch_tokens + s, slots[s] = pass.tokens[stretch_tokens + s] - pass.begin;
  block.clear(way.depth());
  way.append(block, places, slots, count);
  const auto tile = [&](index_t n) {
    [[maybe_unused]] const typename Products::scope on;
    const index_t first = n * height, last = std::min(first + height, count), reach = (last + width - 2) / width;
    std::fill_n(gram.open + first, last - first, 0), std::fill_n(gram.sure + first, last - first, 0);
    for (index_t strip = 0, strips; strip < reach; strip += strips) {
      strips               = next_strips(Products::strips, reach - strip);
      const index_t column = strip * width;
      way.multiply(stretch_tokens + first, last - first, block, strip, strips);
      for (index_t s = first; s < last; ++s) {
        const tile_row<B> row{way.sums(stretch_tokens + s), strips};
        if constexpr (Products::canonical) std::copy_n(row.products, strips * width, gram.row(s) + column);
        gram.open[s] |= way.open(slots[s], row, block.bounds(strip)) << column;
        if constexpr (!Products::canonical) gram.sure[s] |= way.sure(slots[s], row, block.bounds(strip)) << column;
      }
    }
  };
  parallel_for<B>(where, (count + height - 1) / height, tile);
  pass.pairs.evaluated += full_gram_operations(count);
  gram.members = 0, gram.joined = 0;
}

/// Compares one token, whose row is at `place`, with all representatives of earlier blocks.
template <class Products, row_scalar Scalar, cpu_backend B>
void scan_alone(selection_pass<Scalar, B>& pass, Products& way, index_t place) {
  [[maybe_unused]] const typename Products::scope on;
  scan(pass, way, place, 1, 0, pass.pairs);
}

/// Brings the rows of the next tokens to the block's places, up to a block of them that may become representatives.
/// A waiting token whose old representative is settled by now is settled too, or becomes one of them. Returns how many.
template <class Products, row_scalar Scalar, cpu_backend B>
index_t gather_block(selection_pass<Scalar, B>& pass, Products& way, open_tokens<B>& open) {
  const index_t start = open.token[open.next];
  index_t       count = 0;
  for (; open.next < open.count && count < block_tokens; ++open.next) {
    const index_t   i = open.token[open.next], slot = i - pass.begin, place = stretch_tokens + count;
    token_evidence& evidence = pass.evidence[slot];
    const bool      at_hand  = open.row < open.rows_end && pass.tokens[open.row] == i;
    const index_t   row      = at_hand ? open.row++ : -1;
    const bool      ready    = waiting(evidence) && pass.old_rep[i] < start;
    pass.gram.slot[slot]     = -1;
    if (ready && inherit(pass, i)) continue;
    if (pass.settled(i)) continue;
    if (at_hand)
      way.copy(row, place);
    else
      way.load(i, place, slot);
    pass.tokens[place] = i;
    if (ready && evidence == token_evidence::waits_covered) scan_alone(pass, way, place);
    if (ready) evidence = token_evidence::none;
    if (!pass.settled(i)) pass.gram.slot[slot] = count++;
  }
  return count;
}

/// Brings the rows of all tokens of the stretch, at most a block of them, to the block's places.
template <class Products, row_scalar Scalar, cpu_backend B>
index_t gather_all(selection_pass<Scalar, B>& pass, Products& way) {
  for (index_t i = pass.begin; i < pass.end; ++i) {
    const index_t slot = i - pass.begin, place = stretch_tokens + slot;
    way.load(i, place, slot);
    pass.tokens[place] = i, pass.gram.slot[slot] = slot;
  }
  return pass.end - pass.begin;
}

/// Settles token i of the block, given what is found among earlier blocks: compares it with the block's members.
template <class Products, row_scalar Scalar, cpu_backend B>
status resolve_in_block(selection_pass<Scalar, B>& pass, index_t i) {
  block_gram<B>& gram = pass.gram;
  match<B>&      best = pass.found[i - pass.begin];
  const index_t  slot = gram.slot[i - pass.begin];
  if (slot >= 0)
    for (std::uint64_t open = gram.open[slot] & gram.joined; open != 0 && !pass.settled(best); open &= open - 1) {
      const index_t other   = __builtin_ctzll(open);
      const float   product = Products::canonical ? gram.row(slot)[other] : 0;
      pass.template weigh<Products::canonical>(i, gram.position[other], product, gram.sure[slot] >> other & 1, best,
                                               pass.pairs);
    }
  return pass.settle_in_block(i, best);
}

/// Packs the block's members with the representatives so far.
template <class Products, row_scalar Scalar, cpu_backend B>
void append_members(selection_pass<Scalar, B>& pass, Products& way) {
  const block_gram<B>& gram = pass.gram;
  index_t              places[block_tokens], slots[block_tokens];
  for (index_t m = 0; m < gram.members; ++m)
    places[m] = stretch_tokens + gram.member[m], slots[m] = pass.tokens[places[m]] - pass.begin;
  way.append(pass.memory.known, places, slots, gram.members);
}

/// Settles the open tokens from `first` up to the next ones, whose Gram matrix is at hand, in order.
template <class Products, row_scalar Scalar, cpu_backend B>
status settle_block(selection_pass<Scalar, B>& pass, Products& way, const open_tokens<B>& open, index_t first) {
  for (index_t q = first; q < open.next; ++q) {
    const index_t        i        = open.token[q];
    const token_evidence evidence = pass.evidence[i - pass.begin];
    if (evidence == token_evidence::covered) continue;
    if (waiting(evidence)) {
      if (inherit(pass, i)) continue;
      if (evidence == token_evidence::waits_covered)
        scan_alone(pass, way, stretch_tokens + pass.gram.slot[i - pass.begin]);
    }
    if (const status answer = resolve_in_block<Products>(pass, i); answer != status::ok) return answer;
  }
  append_members(pass, way);
  return status::ok;
}

/// Settles the next tokens, while other threads take norms of the next stretch: about as much work as a block is.
template <class Products, row_scalar Scalar, cpu_backend B>
status resolve_block(selection_pass<Scalar, B>& pass, Products& way, open_tokens<B>& open) {
  constexpr bool swift  = Products::height > gram_tuning<B>.rows;  // its Gram matrix is done sooner than threads called
  const index_t  first  = open.next;
  const index_t  norms  = std::min({pass.now.tokens, pass.end + stretch_tokens, pass.normed + stretch_tokens / 2});
  status         answer = status::ok;
  if constexpr (!swift) gram_of_block(pass, way, gather_block(pass, way, open), pass.where.executor);
  pass.beside_norms(norms, [&] {
    if constexpr (swift) gram_of_block(pass, way, gather_block(pass, way, open), serial_executor());
    answer = settle_block(pass, way, open, first);
  });
  return answer;
}

/// Settles the tokens of the stretch that are open.
template <class Products, row_scalar Scalar, cpu_backend B>
status resolve_stretch(selection_pass<Scalar, B>& pass, Products& way, open_tokens<B>& open) {
  while (open.next < open.count) {
    const index_t known = pass.now.count;
    if (const status answer = resolve_block(pass, way, open); answer != status::ok) return answer;
    if (open.row < open.rows_end && pass.now.count > known)
      open.rows_end = open.row + scan_slices(pass, way, open.row, open.rows_end - open.row, known, false);
  }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
