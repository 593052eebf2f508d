#pragma once
// The paper's baseline: selection by way of the T x T Gram matrix.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/walk.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Forms the Gram matrix (its lower triangle, in `gram` [T, T]), then scans it.
template <row_scalar Scalar, cpu_backend B>
status select_literal(selection_call<Scalar, B>& call, product_workspace<B>& space, packed_rows<B>& all, float* gram) {
  const index_t            T = call.tokens();
  full_products<Scalar, B> way(call.rows, space, call.rows.x.cols);
  if (const status answer = call.take_norms(T); answer != status::ok) return answer;
  all.clear(way.depth());
  append_tokens(way, all, nullptr, T);
  for (index_t begin = 0; begin < T; begin += stretch_tokens) {
    const index_t count = std::min(+stretch_tokens, T - begin);
    for (index_t i = 0; i < count; ++i) way.load(begin + i, i, i);
    multiply_all(
        way, call.where.executor, all, count, T, [&](index_t last) { return begin + last; },
        [&](index_t i) { return gram + std::int64_t{begin + i} * T; });
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

}  // namespace cascada::inline CASCADA_ABI::kernel::select
