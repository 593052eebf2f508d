#pragma once
// The paper's baseline: selection by way of the T x T Gram matrix.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/walk.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Forms the Gram matrix (its lower triangle, in `gram` [T, T]), then scans it.
template <row_scalar Scalar, cpu_backend B>
status select_literal(selection_call<Scalar, B>& call, product_workspace<B>& space, packed_rows<B>& all, float* gram) {
  constexpr index_t        width = strip_width<B>, height = gram_tuning<B>.rows;
  const index_t            T = call.tokens();
  full_products<Scalar, B> way(call.rows, space, call.rows.x.cols);
  if (const status answer = call.take_norms(T); answer != status::ok) return answer;
  all.clear(way.depth());
  append_tokens(way, all, nullptr, T);
  for (index_t begin = 0; begin < T; begin += stretch_tokens) {
    const index_t count = std::min(+stretch_tokens, T - begin);
    for (index_t i = 0; i < count; ++i) way.load(begin + i, i, i);
    parallel_for<B>(call.where.executor, (count + height - 1) / height, [&](index_t group) {
      const index_t first = group * height, tile = std::min(height, count - first);
      for (index_t s = 0, strips; s * width < begin + first + tile; s += strips) {
        strips = next_strips(way.strips, all.strips() - s);
        way.multiply(first, tile, all, s, strips);
        for (index_t i = first; i < first + tile; ++i)
          std::copy_n(way.sums(i), std::min(strips * width, T - s * width),
                      gram + std::int64_t{begin + i} * T + s * width);
      }
    });
  }
  call.pairs.evaluated = full_gram_operations(T);
  for (index_t i = 0; i < T; ++i) {
    match<B> best = {};
    for (index_t k = 0; k < call.now().count; ++k) {
      const index_t j = call.now().indices[k];
      pair_value<B> value;
      if (tile_covers<B>(call.rows, i, j, gram[std::int64_t{i} * T + j], value)) call.improve(i, k, value, best);
    }
    if (const status answer = call.settle(i, best); answer != status::ok) return answer;
  }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
