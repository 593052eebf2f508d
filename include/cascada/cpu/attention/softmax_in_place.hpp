#pragma once
// The softmax between the two products of a block that is not packed, and what rows had seen before it.

#include <algorithm>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/packing.hpp"
#include "cascada/cpu/attention/pair_tile.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Scores of a block's keys become weights: of floats in their place, of pairs in `weights`. What a row has seen so far
/// shrinks by its factor.
template <cpu_backend B>
CASCADA_INLINE void weigh_scores(const query_rows<B>& tile, const key_block& block, float* scores, float*,
                                 float* factors) noexcept {
  for (index_t row = 0; row < tile.rows; ++row)
    factors[row] = absorb_row(tile, row, block.visible(row / tile.group), scores + row * score_stride<B, float>);
}
#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
template <cpu_backend B>
CASCADA_INLINE void weigh_scores(const query_rows<B, bf16_pair>& tile, const key_block& block, float* scores,
                                 float* weights, float* factors) noexcept {
  const rows_at_once<B> rows(tile, 0, tile.rows, block);
  for (index_t row = 0; row < tile.rows; ++row) factors[row] = 1;
  absorb_rows<B, false>(rows, block, scores, weights, factors);
  settle_small(rows);
}
#endif

/// Room for what the rows of a tile have seen so far, where packed operands would lie.
template <cpu_backend B, class E>
CASCADA_INLINE query_rows<B, E> softmax_before(query_rows<B, E> tile, attention_scratch<B, E>& scratch) noexcept {
  tile.values = scratch.values.data();
  tile.sums   = scratch.keys.data();
  tile.maxima = scratch.keys.data() + tile.rows * vec<B>::width;
  return tile;
}

/// Copies what rows have seen so far.
template <cpu_backend B, class E>
CASCADA_INLINE void copy_softmax(const query_rows<B, E>& from, const query_rows<B, E>& to) noexcept {
  std::copy_n(from.maxima, from.rows, to.maxima);
  std::copy_n(from.sums, from.rows * vec<B>::width, to.sums);
  std::copy_n(from.values, std::int64_t{from.rows} * from.value_stride, to.values);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
