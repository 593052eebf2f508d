#pragma once
// What is left of a stretch, settled in token order, block by block.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/block.hpp"
#include "cascada/cpu/select/inherit.hpp"
#include "cascada/cpu/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// The tokens of a stretch that are not settled, in order. Rows of those compared so far are at the places from
/// `row` to `rows_end`, in order.
template <cpu_backend B>
struct unsettled_tokens {
  index_t token[stretch_tokens];
  index_t count = 0, next = 0;
  index_t row = 0, rows_end = 0;
};

/// Products among the tokens of a block: each with those before it. Their rows are at the block's places, by line.
template <class Products, cpu_backend B, executor Executor>
void gram_of_block(selection_block<B>& block, Products& way, const Executor& where, compared_pairs<B>& pairs) {
  constexpr index_t width                = strip_width<B>;
  const index_t     count                = block.count;
  packed_rows<B>&   columns              = way.batch();
  index_t           places[block_tokens] = {};  // g++ 12 does not see that they are written
  for (index_t s = 0; s < count; ++s) places[s] = stretch_tokens + s;
  columns.clear(way.depth());
  way.append(columns, places, block.local, count);
  multiply_groups(
      way, where, columns, stretch_tokens, count, [](index_t last) { return (last + width - 2) / width; },
      [&](index_t s, index_t strip, index_t strips) {
        const index_t     column = strip * width;
        const tile_row<B> row{way.sums(stretch_tokens + s), strips};
        if constexpr (Products::canonical) std::copy_n(row.products, strips * width, block.row(s) + column);
        block.possible[s] |= way.possible(block.local[s], row, columns.bounds(strip)) << column;
        if constexpr (!Products::canonical)
          block.sure[s] |= way.sure(block.local[s], row, columns.bounds(strip)) << column;
      });
  pairs.evaluated += full_gram_operations(count);
}

/// Compares one token, whose row is at `place`, with all representatives of earlier blocks.
template <class Products, row_scalar Scalar, cpu_backend B>
void scan_alone(selection_call<Scalar, B>& call, selection_stretch<B>& stretch, Products& way, index_t place) {
  [[maybe_unused]] const typename Products::scope on;
  scan(call, stretch, way, place, 1, 0, call.pairs);
}

/// Brings the rows of the next tokens to the block's places, up to a block of them that may become representatives.
/// A waiting token whose old representative is settled by now is settled too, or becomes one of them.
template <class Products, row_scalar Scalar, cpu_backend B>
void gather_block(selection_call<Scalar, B>& call, selection_stretch<B>& stretch, selection_block<B>& block,
                  Products& way, unsettled_tokens<B>& unsettled) {
  const index_t start = unsettled.token[unsettled.next];
  for (; unsettled.next < unsettled.count && block.count < block_tokens; ++unsettled.next) {
    const index_t i = unsettled.token[unsettled.next], local = stretch.local(i), place = stretch_tokens + block.count;
    inherited_evidence& evidence = stretch.evidence[local];
    const bool          at_hand  = unsettled.row < unsettled.rows_end && way.token(unsettled.row) == i;
    const index_t       row      = at_hand ? unsettled.row++ : -1;
    const bool          ready    = waiting(evidence) && call.old_rep[i] < start;
    block.line[local]            = -1;
    if (ready && inherit(call, i, evidence)) continue;
    if (call.settled(stretch.found[local])) continue;
    if (at_hand)
      way.copy(row, place);
    else
      way.load(i, place, local);
    if (ready && evidence == inherited_evidence::waits_covered) scan_alone(call, stretch, way, place);
    if (ready) evidence = inherited_evidence::none;
    if (!call.settled(stretch.found[local])) block.take(local);
  }
}

/// Brings the rows of all tokens of a stretch, at most a block of them, to the block's places.
template <class Products, cpu_backend B>
void gather_all(const selection_stretch<B>& stretch, selection_block<B>& block, Products& way) {
  for (index_t i = stretch.begin; i < stretch.end; ++i) {
    way.load(i, stretch_tokens + block.count, stretch.local(i));
    block.take(stretch.local(i));
  }
}

/// Gives token i of a block the representative found. Without one it becomes one, and its line joins.
template <row_scalar Scalar, cpu_backend B>
status settle_in_block(selection_call<Scalar, B>& call, selection_block<B>& block, index_t line, index_t i,
                       const match<B>& best) noexcept {
  if (const status answer = call.settle(i, best); answer != status::ok || best.position >= 0) return answer;
  block.join(line, call.now().count - 1);
  return status::ok;
}

/// Settles token i of a block, given what is found among earlier blocks: compares it with those of the block that
/// joined R.
template <class Products, row_scalar Scalar, cpu_backend B>
status resolve_in_block(selection_call<Scalar, B>& call, selection_block<B>& block, index_t line, index_t i,
                        match<B>& best) {
  if (line >= 0)
    for (std::uint64_t asked = block.possible[line] & block.joined; asked != 0 && !call.settled(best);
         asked &= asked - 1) {
      const index_t other   = __builtin_ctzll(asked);
      const float   product = Products::canonical ? block.row(line)[other] : 0;
      call.template judge<Products::canonical>(i, block.position[other], product, block.sure[line] >> other & 1, best,
                                               call.pairs);
    }
  return settle_in_block(call, block, line, i, best);
}

/// Packs the tokens of the block that joined R with the representatives so far.
template <class Products, cpu_backend B>
void append_joined(const selection_block<B>& block, Products& way) {
  index_t places[block_tokens], locals[block_tokens];
  for (index_t m = 0; m < block.count_joined; ++m)
    places[m] = stretch_tokens + block.joined_line[m], locals[m] = block.local[block.joined_line[m]];
  way.append(way.known(), places, locals, block.count_joined);
}

/// Settles the tokens from `first` up to the next ones, whose Gram matrix is at hand, in order.
template <class Products, row_scalar Scalar, cpu_backend B>
status settle_block(selection_call<Scalar, B>& call, selection_stretch<B>& stretch, selection_block<B>& block,
                    Products& way, const unsettled_tokens<B>& unsettled, index_t first) {
  for (index_t q = first; q < unsettled.next; ++q) {
    const index_t       i = unsettled.token[q], local = stretch.local(i), line = block.line[local];
    inherited_evidence& evidence = stretch.evidence[local];
    if (evidence == inherited_evidence::covered) continue;
    if (waiting(evidence)) {
      if (inherit(call, i, evidence)) continue;
      if (evidence == inherited_evidence::waits_covered) scan_alone(call, stretch, way, stretch_tokens + line);
    }
    const status answer = resolve_in_block<Products>(call, block, line, i, stretch.found[local]);
    if (answer != status::ok) return answer;
  }
  append_joined(block, way);
  return status::ok;
}

/// Settles the next tokens, while other threads take norms of the next stretch: about as much work as a block is.
template <class Products, row_scalar Scalar, cpu_backend B>
status resolve_block(selection_call<Scalar, B>& call, selection_stretch<B>& stretch, Products& way,
                     unsettled_tokens<B>& unsettled) {
  constexpr bool swift = Products::height > gram_tuning<B>.rows;  // its Gram matrix is done sooner than threads called
  const index_t  first = unsettled.next;
  const index_t  norms = std::min({call.tokens(), stretch.end + stretch_tokens, call.normed() + stretch_tokens / 2});
  selection_block<B> block(way.gram());
  status             answer = status::ok;
  const auto         begin  = [&](const auto& where) {
    gather_block(call, stretch, block, way, unsettled);
    gram_of_block(block, way, where, call.pairs);
  };
  if constexpr (!swift) begin(call.where.executor);
  call.beside_norms(norms, [&] {
    if constexpr (swift) begin(serial_executor());
    answer = settle_block(call, stretch, block, way, unsettled, first);
  });
  return answer;
}

/// Settles the rest of the stretch.
template <class Products, row_scalar Scalar, cpu_backend B>
status resolve_stretch(selection_call<Scalar, B>& call, selection_stretch<B>& stretch, Products& way,
                       unsettled_tokens<B>& unsettled) {
  while (unsettled.next < unsettled.count) {
    const index_t known = call.now().count;
    if (const status answer = resolve_block(call, stretch, way, unsettled); answer != status::ok) return answer;
    if (unsettled.row < unsettled.rows_end && call.now().count > known)
      unsettled.rows_end = unsettled.row + scan_slices(call, stretch, way, nullptr, unsettled.row,
                                                       unsettled.rows_end - unsettled.row, known, call.pairs);
  }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
