#pragma once
// Softmax attention of a few query rows over blocks of packed keys: the kernel behind every mode. in_place.hpp has the
// same sums for keys that are not packed.
//
//   scores [rows, n]   = bias + queries [rows, d] x keys [d, n]        score_tile
//   weights            = 2^(scores - running maximum)                  absorb_scores
//   values [rows, d_v] = values x old / new + weights x V [n, d_v]     value_tile
//
// Logits are in base 2: queries carry scale x log2 e, and a cluster's bias is log2 of its size. A row's result is
// made of its keys in order, cut into blocks from its first key; which rows share a tile, and on which
// thread, changes no bit of it. What a lane of an operand holds, a float or a pair of bfloat16, is the parameter E;
// with pairs, the softmax is that of pair_tile.hpp.

#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/adjust_scores.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/attention/seen_keys.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/product_tile.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// use.template operator()<Vectors>(column) for columns [0, count): `Most` vectors at a time, the last by `Least`.
template <cpu_backend B, index_t Most, index_t Least, class Use>
CASCADA_INLINE void by_columns(index_t count, const Use& use) noexcept {
  constexpr index_t width  = vec<B>::width;
  index_t           column = 0;
  for (; column + Most * width <= count; column += Most * width) use.template operator()<Most>(column);
  for (; column < count; column += Least * width) use.template operator()<Least>(column);
}

/// scores [Rows, Vectors] = bias + queries x keys, for the keys from `first`.
template <cpu_backend B, class E, class Stored, index_t Rows, index_t Vectors>
CASCADA_INLINE void score_vectors(const float* queries, index_t key_lanes, const float* panels, index_t first,
                                  const float* const* bias, float* scores, std::int64_t score_stride) noexcept {
  const float*                   keys = panels + panel_offset<B>(first, stored_lanes<E, Stored>(key_lanes));
  product_tile<B, Rows, Vectors> tile;
  tile.begin([&](index_t i, index_t v) {
    return bias[i] ? vec<B>::load(bias[i] + first + v * vec<B>::width) : vec<B>::zero();
  });
  const float* rows[extent(Rows)];
  for (index_t i = 0; i < Rows; ++i) rows[i] = queries + std::int64_t{i} * key_lanes;
  tile.template add<E>(0, key_lanes, rows, [&](index_t k, vec<B>(&key)[extent(Vectors)]) {
#pragma GCC unroll 4
    for (index_t v = 0; v < Vectors; ++v)
      key[v] = load_factors<B, E, Stored>(keys + v * vec<B>::width, k, panel_keys<B>);
  });
  tile.store(scores + first, score_stride);
}

/// scores [Rows, count] = bias + queries x keys; scores are written up to whole vectors.
template <cpu_backend B, class E, class Stored, index_t Rows>
void score_tile(const float* queries, index_t key_lanes, const key_block& block, index_t count,
                const float* const* bias, float* scores, std::int64_t score_stride) noexcept {
  by_columns<B, attention_tuning<B>.vectors, 1>(count, [&]<index_t Vectors>(index_t first) {
    score_vectors<B, E, Stored, Rows, Vectors>(queries, key_lanes, block.keys, first, bias, scores, score_stride);
  });
}

/// score_tile for `rows` rows of a tile from `row`, 1 to attention_tuning.rows, and a block's first `count` keys. A
/// row's bias may lie where its scores go.
template <cpu_backend B, class E, index_t Rows = attention_tuning<B>.rows>
void score_biased_rows(const query_rows<B, E>& tile, index_t row, index_t rows, const key_block& block, index_t count,
                       const float* const* bias, float* scores, std::int64_t score_stride) noexcept {
  if constexpr (Rows > 1)
    if (rows < Rows)
      return score_biased_rows<B, E, Rows - 1>(tile, row, rows, block, count, bias, scores, score_stride);
  const auto score = [&]<class Stored>() {
    score_tile<B, E, Stored, Rows>(tile.queries + std::int64_t{row} * tile.key_lanes, tile.key_lanes, block, count,
                                   bias, scores, score_stride);
  };
  if (block.kept == summary_type::bytes) return score.template operator()<byte_four>();
  if constexpr (std::same_as<E, float>)
    if (block.kept == summary_type::bfloat16) return score.template operator()<bf16_pair>();
  score.template operator()<E>();
}

/// The same with the block's bias, of floats.
template <cpu_backend B, class E>
void score_rows(const query_rows<B, E>& tile, index_t row, index_t rows, const key_block& block, index_t count,
                float* scores, std::int64_t score_stride) noexcept {
  const float* bias[attention_tuning<B>.rows] = {};
  for (index_t i = 0; i < rows; ++i) bias[i] = std::same_as<E, float> ? block.bias_of((row + i) / tile.group) : nullptr;
  score_biased_rows(tile, row, rows, block, count, bias, scores, score_stride);
}

/// values [Rows, Vectors] = values x factor + weights [Rows, begin .. end) x V [begin .. end, Vectors], in lanes of
/// keys; load(j, value) brings V's vectors of lanes j.
template <cpu_backend B, class E, index_t Rows, index_t Vectors, class Load>
CASCADA_INLINE void value_tile(const float* weights, std::int64_t weight_stride, index_t begin, index_t end,
                               const float* factors, float* values, std::int64_t value_stride,
                               const Load& load) noexcept {
  product_tile<B, Rows, Vectors> tile;
  tile.begin([&](index_t i, index_t v) {
    return vec<B>::load(values + i * value_stride + v * vec<B>::width) * vec<B>::broadcast(factors[i]);
  });
  const float* rows[extent(Rows)];
  for (index_t i = 0; i < Rows; ++i) rows[i] = weights + i * weight_stride;
  tile.template add<E>(begin, end, rows, load);
  tile.store(values, value_stride);
}

/// The whole width of `rows` rows from `row`, 1 to attention_tuning.rows, over keys [begin, end) of a block, in lanes
/// of weights.
template <cpu_backend B, class E, index_t Rows = attention_tuning<B>.rows, class Stored = E>
void value_rows(const query_rows<B, E>& tile, index_t row, index_t rows, const float* weights,
                std::int64_t weight_stride, const float* rows_of_v, index_t begin, index_t end,
                const float* factors) noexcept {
  if constexpr (Rows > 1)
    if (rows < Rows)
      return value_rows<B, E, Rows - 1, Stored>(tile, row, rows, weights, weight_stride, rows_of_v, begin, end,
                                                factors);
  float* values = tile.values_of(row);
  by_columns<B, attention_tuning<B>.vectors, 1>(tile.value_stride, [&]<index_t Vectors>(index_t c) {
    const auto load = [&](index_t j, vec<B>(&value)[extent(Vectors)]) {
#pragma GCC unroll 4
      for (index_t v = 0; v < Vectors; ++v)
        value[v] = load_factors<B, E, Stored>(rows_of_v + c + v * vec<B>::width, j, tile.value_stride);
    };
    value_tile<B, E, Rows, Vectors>(weights, weight_stride, begin, end, factors, values + c, tile.value_stride, load);
  });
}

/// The largest of `count` logits and `at_least`. Lanes behind them, to a whole vector, become -infinity.
template <cpu_backend B>
CASCADA_INLINE float largest_logit(float* logits, index_t count, float at_least) noexcept {
  constexpr index_t chains = 4, width = vec<B>::width;  // of maxima, which would wait for each other in one
  const index_t     padded = whole_vectors<B>(count);
  for (index_t j = count; j < padded; ++j) logits[j] = -std::numeric_limits<float>::infinity();
  const auto before      = vec<B>::broadcast(at_least);
  vec<B>     top[chains] = {before, before, before, before};
  index_t    j           = 0;
  for (; j + chains * width <= padded; j += chains * width)
    for (index_t c = 0; c < chains; ++c) top[c] = max(top[c], vec<B>::load(logits + j + c * width));
  for (; j < padded; j += width) top[0] = max(top[0], vec<B>::load(logits + j));
  const auto highest = max(max(top[0], top[1]), max(top[2], top[3]));
  return bits_less(before, highest) != 0 ? reduce_max(highest) : at_least;
}

/// Turns a row's first `count` scores into weights and takes them into its softmax. Returns the factor by which
/// everything before shrinks. A NaN score makes its weight, so the whole row, NaN.
template <cpu_backend B>
CASCADA_INLINE float absorb_scores(float* scores, index_t count, float& maximum, float* sums) noexcept {
  const auto before = vec<B>::broadcast(maximum);
  maximum           = largest_logit<B>(scores, count, maximum);
  const auto now    = vec<B>::broadcast(maximum);
  auto       total  = vec<B>::zero();
  for (index_t j = 0; j < count; j += vec<B>::width) {
    const vec<B> weight = exp2(vec<B>::load(scores + j) - now);
    weight.store(scores + j);
    total = total + weight;
  }
  const vec<B> shrink = exp2(before - now);
  multiply_add(vec<B>::load(sums), shrink, total).store(sums);
  float lanes[extent(vec<B>::width)];
  shrink.store(lanes);
  return lanes[0];
}

/// The same for the scores of a row of a tile, which sees `seen` keys: 1 if there are none.
template <cpu_backend B>
CASCADA_INLINE float absorb_row(const query_rows<B>& tile, index_t row, index_t seen, float* scores) noexcept {
  return seen == 0 ? 1.0f : absorb_scores<B>(scores, seen, tile.maxima[row], tile.sums + row * vec<B>::width);
}

/// add_what_rows_see for values of a block from row `row` of a tile.
template <cpu_backend B>
CASCADA_INLINE void add_seen_values(const query_rows<B>& tile, index_t row, index_t rows, const key_block& block,
                                    const float* weights, const index_t* first, const index_t* end,
                                    float* factors) noexcept {
  add_what_rows_see(
      rows, first, end, factors, [&](index_t i, index_t count, index_t begin, index_t stop, const float* shrink) {
        value_rows(tile, row + i, count, weights + i * block_keys<B>, block_keys<B>, block.values, begin, stop, shrink);
      });
}

/// Takes a block of keys into a few rows: scores are adjusted, and rows no longer see its first keys.
template <cpu_backend B>
void attend_adjusted(const query_rows<B>& tile, index_t row, index_t rows, const key_block& whole,
                     float* scores) noexcept {
  constexpr index_t       step = attention_tuning<B>.rows;
  const seen_ranges<step> seen(tile, row, rows, whole, panel_keys<B>);
  if (!seen.any) return;
  const key_block block              = without_first(seen.from, tile, whole);
  const float*    bias[extent(step)] = {};
  score_biased_rows(tile, row, rows, block, seen.most - seen.from, bias, scores, block_keys<B>);
  index_t first[extent(step)], end[extent(step)];
  float   factors[extent(step)];
  for (index_t i = 0; i < rows; ++i) {
    first[i] = seen.first[i] - seen.from, end[i] = seen.end[i] - seen.from;
    if (first[i] == end[i]) continue;
    float* of_row = scores + i * block_keys<B>;
    if (block.adjust->changes_logits()) adjust_scores(tile, row + i, block, end[i], of_row);
    for (index_t j = 0; j < first[i]; ++j) of_row[j] = -std::numeric_limits<float>::infinity();
    factors[i] = absorb_row(tile, row + i, end[i], of_row);
  }
  add_seen_values(tile, row, rows, block, scores, first, end, factors);
}

/// Takes a block of keys into every row of the tile. `scores` is room for [attention_tuning.rows, block_keys].
template <cpu_backend B>
void attend_block(const query_rows<B>& tile, const key_block& block, float* scores) noexcept {
  constexpr index_t step    = attention_tuning<B>.rows;
  const auto        visible = [&](index_t row) { return block.visible(row / tile.group); };
  for (index_t row = 0; row < tile.rows; row += step) {
    const index_t rows = tile.rows - row < step ? tile.rows - row : step, most = visible(row + rows - 1);
    if (most == 0) continue;
    if (block.adjust) {
      attend_adjusted(tile, row, rows, block, scores);
      continue;
    }
    score_rows(tile, row, rows, block, most, scores, block_keys<B>);
    float         factors[extent(step)];
    const index_t none[extent(step)] = {};
    index_t       seen[extent(step)];
    for (index_t i = 0; i < rows; ++i) {
      seen[i]    = visible(row + i);
      factors[i] = absorb_row(tile, row + i, seen[i], scores + i * block_keys<B>);
    }
    add_seen_values(tile, row, rows, block, scores, none, seen, factors);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
