#pragma once
// One step of the cascade: evidence that the layer before left, then the same block resolution as a selection.
//
// The definition asks only whether some earlier representative covers a token, so any evidence of cover will do. The
// candidate of a token is the representative of the one it had: rep(rep_before(i)). That is its old representative
// where it still is one, and else the one that took its place.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select.hpp"

namespace cascada::kernel {

/// Checks each token of the block that was not a representative against its candidate; one whose old representative
/// lies in the block itself has to wait for it.
template <row_scalar Scalar, cpu_backend B>
void check_inherited(selection_pass<Scalar, B>& pass, const representatives& before, index_t begin, index_t end) {
  constexpr index_t lanes   = pair_lanes<B>;
  const index_t*    old_rep = before.rep.data();
  index_t           tokens[block_tokens];
  index_t           count = 0;
  for (index_t i = begin; i < end; ++i) {
    pass.evidence[i - begin] = old_rep[i] < i && old_rep[i] >= begin ? token_evidence::pending : token_evidence::none;
    if (old_rep[i] < begin) tokens[count++] = i;
  }
  pass.where.executor.parallel_for((count + lanes - 1) / lanes, [&](index_t group) {
    const Scalar* later[lanes];
    const Scalar* earlier[lanes];
    float         products[lanes];
    const index_t first = group * lanes, last = std::min(count, first + lanes);
    for (index_t lane = 0; lane < lanes; ++lane) {
      const index_t i = tokens[std::min(first + lane, last - 1)];
      later[lane]     = pass.rows.x.row(i);
      earlier[lane]   = pass.rows.x.row(pass.now.rep[old_rep[i]]);
    }
    pair_products<B>(later, earlier, pass.rows.x.cols, products);
    for (index_t p = first; p < last; ++p) {
      const index_t i = tokens[p], candidate = pass.now.rep[old_rep[i]];
      if (!covers<B>(products[p - first], pass.rows.scaled_norms[i], pass.rows.norms[candidate])) continue;
      pass.now.rep[i]          = candidate;
      pass.evidence[i - begin] = token_evidence::covered;
    }
  });
  pass.pairs_evaluated += count;
}

/// The exact cascade.
template <row_scalar Scalar, cpu_backend B>
status cascade_exact(selection_pass<Scalar, B>& pass, const representatives& before) {
  const auto inherits = [&](index_t i) { return pass.now.rep[before.rep.data()[i]]; };
  for (index_t begin = 0; begin < pass.now.tokens; begin += block_tokens) {
    const index_t end = std::min(pass.now.tokens, begin + block_tokens);
    for (match& found : pass.found) found = {};
    check_inherited(pass, before, begin, end);
    const status answer = resolve_block(pass, begin, end, inherits);
    if (answer != status::ok) return answer;
  }
  return status::ok;
}

/// Paper mode's own workspace: the former representatives' rows of this layer, and a block's cross-Gram products.
template <cpu_backend B>
struct cross_gram_workspace {
  packed_rows<B>     former;    // rows of the former representatives
  buffer<float, B>   products;  // [block_tokens, r rounded up to panels] of the tokens that were none
  buffer<index_t, B> position;  // [T] place among the former representatives, -1 for other tokens
  std::int64_t       stride = 0;

  void reserve(index_t T, index_t d) {
    former.reserve(T, d);
    position.reserve(T);
    products.reserve(block_tokens * (std::int64_t{T} + panel_width<B>));
  }

  template <row_scalar Scalar>
  void begin(const gram_rows<Scalar>& rows, const representatives& before) noexcept {
    former.clear(rows.x.cols);
    std::fill_n(position.data(), before.tokens(), -1);
    for (index_t k = 0; k < before.count(); ++k) {
      const index_t member = before.indices.data()[k];
      const Scalar* row    = rows.x.row(member);
      position[member]     = k;
      former.append(&row, &rows.norms[member], 1);
    }
    stride = (std::int64_t{before.count()} + panel_width<B> - 1) / panel_width<B> * panel_width<B>;
  }
};

/// Products of the block's tokens that were no representatives with all former representatives, later ones included.
template <row_scalar Scalar, cpu_backend B>
void cross_gram_block(selection_pass<Scalar, B>& pass, cross_gram_workspace<B>& cross, index_t begin, index_t end) {
  constexpr index_t width = panel_width<B>, height = gram_tuning<B>.rows;
  index_t           tokens[block_tokens];
  index_t           count = 0;
  for (index_t i = begin; i < end; ++i)
    if (cross.position[i] < 0) tokens[count++] = i;
  pass.where.executor.parallel_for((count + height - 1) / height, [&](index_t group) {
    const index_t first = group * height, tile = std::min(height, count - first);
    const Scalar* rows[height];
    for (index_t i = 0; i < tile; ++i) rows[i] = pass.rows.x.row(tokens[first + i]);
    for (index_t p = 0; p * width < cross.former.count(); ++p)
      gram_tile_of<B>(tile, rows, cross.former.panel(p), pass.rows.x.cols, [&](index_t i, const tile_row<B>& row) {
        row.store(cross.products.data() + (tokens[first + i] - begin) * cross.stride + p * width);
      });
  });
  pass.pairs_evaluated += std::int64_t{count} * cross.former.count();
}

/// Settles a token that was no representative, from the cross-Gram products where they reach.
template <row_scalar Scalar, cpu_backend B>
status resolve_from_cross_gram(selection_pass<Scalar, B>& pass, const cross_gram_workspace<B>& cross, index_t candidate,
                               index_t begin, index_t i) {
  const float* products = cross.products.data() + (i - begin) * cross.stride;
  const auto   covered  = [&](index_t j, float& product) {
    if (cross.position[j] < 0) return pass.covered_by(i, j, product);
    product = products[cross.position[j]];
    return pass.tile_covers(i, j, product);
  };
  float product;
  if (covered(candidate, product)) {
    pass.now.rep[i] = candidate;
    return status::ok;
  }
  match best = {};
  for (index_t k = 0; k < pass.now.count; ++k) {
    if (pass.now.indices[k] == candidate || !covered(pass.now.indices[k], product)) continue;
    if (pass.improves(best, k, product)) best = {k, product};
    if (pass.settled(best)) break;
  }
  return pass.settle(begin, i, best);
}

/// Paper mode: the cross-Gram matrix first, block by block, then what removals and additions need.
template <row_scalar Scalar, cpu_backend B>
status cascade_cross_gram(selection_pass<Scalar, B>& pass, cross_gram_workspace<B>& cross,
                          const representatives& before) {
  cross.begin(pass.rows, before);
  for (index_t begin = 0; begin < pass.now.tokens; begin += block_tokens) {
    const index_t end = std::min(pass.now.tokens, begin + block_tokens);
    for (match& found : pass.found) found = {};
    cross_gram_block(pass, cross, begin, end);
    for (index_t i = begin; i < end; ++i)
      pass.evidence[i - begin] = cross.position[i] < 0 ? token_evidence::covered : token_evidence::none;
    scan_block(pass, begin, end);
    gram_of_block(pass, begin, end, [](index_t) { return true; });
    for (index_t i = begin; i < end; ++i) {
      const status answer = cross.position[i] >= 0
                                ? resolve_in_block(pass, begin, i)
                                : resolve_from_cross_gram(pass, cross, pass.now.rep[before.rep.data()[i]], begin, i);
      if (answer != status::ok) return answer;
    }
    pass.end_block();
  }
  return status::ok;
}

}  // namespace cascada::kernel
