#pragma once
// Logits of leaves: products with mean keys, log2 of the counts, and what the spread of the keys adds to both.

#include <cstdint>
#include <limits>
#include <numbers>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/scratch.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// query_squares [rows, moments]: 1/2 scale^2 |q_g|^2, times log2 e.
template <cpu_backend B, class E>
void measure_queries(const query_rows<B, E>& tile, const leaf_shape& shape, float* query_squares) noexcept {
  constexpr float largest = std::numeric_limits<float>::max();
  for (index_t row = 0; row < tile.rows; ++row) {
    const float* query = tile.queries + std::int64_t{row} * tile.key_lanes;
    for (index_t g = 0; g < shape.moments; ++g) {
      float square = 0;
      for (index_t k = shape.group_edge(g); k < shape.group_edge(g + 1); ++k) {
        const float element = element_of<E>(query, k);
        square += element * element;
      }
      if constexpr (!std::same_as<E, float>) square = square * tile.scale * tile.scale;
      square *= static_cast<float>(0.5 / std::numbers::log2e);
      *query_squares++ = detail::from_zero_to(square, largest) ? square : largest;
    }
  }
}

/// The largest correction, of logits in base 2.
inline constexpr auto largest_in_base_2 =
    static_cast<float>(static_cast<double>(largest_correction) * std::numbers::log2e);

/// Corrections, whatever their size, of a vector of leaves for a few rows.
template <cpu_backend B, class E, index_t Rows>
CASCADA_INLINE void leaf_corrections(const leaf_summaries<B, E>& leaves, const float* query_squares, index_t first,
                                     vec<B> (&biases)[extent(Rows)]) noexcept {
  const index_t moments = leaves.shape().moments;
  for (index_t i = 0; i < Rows; ++i) biases[i] = vec<B>::zero();
  for (index_t g = 0; g < moments; ++g) {
    const auto variance = leaves.variances(g, first);
#pragma GCC unroll 8
    for (index_t i = 0; i < Rows; ++i)
      biases[i] = multiply_add(vec<B>::broadcast(query_squares[i * moments + g]), variance, biases[i]);
  }
}

/// log2 of the counts + min(4, correction).
template <cpu_backend B, class E, index_t Rows>
CASCADA_INLINE void leaf_biases(const leaf_summaries<B, E>& leaves, const float* query_squares, index_t first,
                                vec<B> (&biases)[extent(Rows)]) noexcept {
  const auto log_count = vec<B>::load(leaves.log_counts() + first);
  const auto most      = vec<B>::broadcast(largest_in_base_2);
  leaf_corrections<B, E, Rows>(leaves, query_squares, first, biases);
#pragma GCC unroll 8
  for (index_t i = 0; i < Rows; ++i) biases[i] = min(biases[i], most) + log_count;
}

/// Products of a vector of leaves, in place, become capped logits + log2 of the counts + min(4, correction), which
/// shrinks as the capped logit's variance does.
template <cpu_backend B, class E>
CASCADA_INLINE void cap_leaf_logits(const leaf_summaries<B, E>& leaves, const float* query_squares, index_t first,
                                    float scale, float cap, float* logits) noexcept {
  using words      = integers<B, std::uint32_t>;
  const auto limit = vec<B>::broadcast(cap);
  const auto most  = vec<B>::broadcast(largest_in_base_2);
  vec<B>     corrections[1];
  leaf_corrections<B, E, 1>(leaves, query_squares, first, corrections);
  // The derivative as 4 e^(-2 |x|) / (1 + e^(-2 |x|))^2, which has all its digits: 1 - tanh^2 loses them near 0.
  const auto ratio = quotient(vec<B>::load(logits) * vec<B>::broadcast(scale), cap), part = tanh(ratio);
  const auto power = exp2(abs(ratio) * vec<B>::broadcast(minus_two_log2e)), both = vec<B>::broadcast(1) + power;
  const auto steep = vec<B>::broadcast(4) * power / (both * both);
  vec<B>     left  = min(corrections[0] * steep * steep, most);
  // Of an infinite correction and 0 nothing is left. By bits, whatever -ffast-math assumes.
  const auto size = words::load(&steep.value) & 0x7fff'ffffu, bits = words::load(&left.value);
  const auto finite = size == 0u ? size : bits;
  __builtin_memcpy(&left.value, &finite, sizeof finite);
  (limit * part + left + vec<B>::load(leaves.log_counts() + first)).store(logits);
}

/// use.template operator()<Rows>(row) for rows [0, count), a few at a time.
template <index_t Rows, class Use>
CASCADA_INLINE void by_rows(index_t count, const Use& use) noexcept {
  index_t row = 0;
  for (; row + Rows <= count; row += Rows) use.template operator()<Rows>(row);
  for (; row < count; ++row) use.template operator()<1>(row);
}

/// score(block, first, row, rows, query_squares, logits) for a few rows of the tile at a time, and every block of
/// leaves, from leaf `first` on: `logits` [rows, stride] and, of queries that are measured here, `query_squares` [rows,
/// moments] are theirs.
template <index_t Rows, cpu_backend B, class E, class Score>
CASCADA_INLINE void walk_leaves(const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, std::int64_t stride,
                                far_field_scratch<B>& scratch, const Score& score) noexcept {
  measure_queries(tile, leaves.shape(), scratch.query_squares.data());
  for (index_t first = 0; first < leaves.count(); first += block_keys<B, E>) {
    const key_block block = leaves.block(first);
    for (index_t row = 0; row < tile.rows; row += Rows)
      score(block, first, row, tile.rows - row < Rows ? tile.rows - row : Rows,
            scratch.query_squares.data() + std::int64_t{row} * leaves.shape().moments,
            scratch.weights.data() + row * stride + first);
  }
}

/// Products of a row with integers become those with the mean keys that they stand for.
template <cpu_backend B, class E>
CASCADA_INLINE void scale_products(const leaf_summaries<B, E>& leaves, index_t first, index_t count, const float* query,
                                   index_t key_lanes, float* products) noexcept {
  float excess = 0;
  if constexpr (!std::same_as<E, float>) {
    auto all = vec<B>::zero();
    for (index_t k = 0; k < key_lanes; k += vec<B>::width)
      all = add_products<E>(vec<B>::load(query + k), vec<B>::broadcast(pair_of_ones), all);
    excess = excess_of_fours * reduce_sum(all);
  }
  for (index_t j = 0; j < count; j += vec<B>::width)
    ((vec<B>::load(products + j) - vec<B>::broadcast(excess)) * vec<B>::load(leaves.key_scales() + first + j))
        .store(products + j);
}

/// products [rows, block.count], without bias, of keys as they are kept.
template <cpu_backend B, class E, class Products>
CASCADA_INLINE void multiply_leaves(Products& products, const query_rows<B, E>& tile,
                                    const leaf_summaries<B, E>& leaves, key_block block, index_t first, index_t row,
                                    index_t rows, float* logits, std::int64_t stride) noexcept {
  block.bias = nullptr;
  products.score(tile, row, rows, block, block.count, logits, stride);
  if (block.kept != summary_type::bytes) return;
  for (index_t i = 0; i < rows; ++i)
    scale_products(leaves, first, block.count, tile.queries + std::int64_t{row + i} * tile.key_lanes, tile.key_lanes,
                   logits + i * stride);
}

/// weights [rows, stride] = logits of all rows against all leaves.
template <cpu_backend B, class E, class Products>
void score_leaves(Products& products, const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves,
                  std::int64_t stride, far_field_scratch<B>& scratch) noexcept {
  constexpr index_t step = Products::rows, width = vec<B>::width, together = attention_tuning<B>.rows;
  const auto score = [&](const key_block& block, index_t first, index_t row, index_t rows, const float* query_squares,
                         float* logits) {
    const bool multiplied = !std::same_as<E, float> || block.kept == summary_type::bytes;
    if (multiplied) multiply_leaves(products, tile, leaves, block, first, row, rows, logits, stride);
    const auto scale = vec<B>::broadcast(std::same_as<E, float> ? 1.0f : tile.scale);  // products of pairs carry none
    by_rows<together>(rows, [&]<index_t Rows>(index_t i) {
      for (index_t j = 0; j < block.count; j += width) {
        vec<B> biases[extent(Rows)];
        leaf_biases<B, E, Rows>(leaves, query_squares + i * leaves.shape().moments, first + j, biases);
        for (index_t r = 0; r < Rows; ++r) {
          float* at = logits + (i + r) * stride + j;
          if (multiplied) biases[r] = multiply_add(vec<B>::load(at), scale, biases[r]);
          biases[r].store(at);
        }
      }
    });
    if constexpr (std::same_as<E, float>) {
      if (multiplied) return;
      // Products add up on what is there.
      const float* in_place[extent(step)];
      for (index_t i = 0; i < rows; ++i) in_place[i] = logits + i * stride;
      score_biased_rows(tile, row, rows, block, block.count, in_place, logits, stride);
    }
  };
  walk_leaves<step>(tile, leaves, stride, scratch, score);
}

/// The same with a cap.
template <cpu_backend B, class E, class Products>
void score_capped_leaves(Products& products, const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves,
                         float cap, std::int64_t stride, far_field_scratch<B>& scratch) noexcept {
  const index_t moments = leaves.shape().moments;
  const auto score = [&](const key_block& block, index_t first, index_t row, index_t rows, const float* query_squares,
                         float* logits) {
    multiply_leaves(products, tile, leaves, block, first, row, rows, logits, stride);
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < block.count; j += vec<B>::width)
        cap_leaf_logits(leaves, query_squares + i * moments, first + j, tile.scale, cap, logits + i * stride + j);
  };
  walk_leaves<Products::rows>(tile, leaves, stride, scratch, score);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
