#pragma once
// Softmax attention over blocks of keys with bfloat16 products: of q and k as they are, and of weights rounded to
// bfloat16 with v.
//
// Weights of keys that a row does not see are zero, and so are the values that are not finite (add_wild brings those to
// the rows that see them), so that rows that see less share the products of their tile.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/adjust_scores.hpp"
#include "cascada/cpu/attention/pair_packing.hpp"
#include "cascada/cpu/attention/pair_weights.hpp"
#include "cascada/cpu/attention/products.hpp"
#include "cascada/cpu/attention/row_lengths.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)

#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12's bug 105593, as in simd.hpp
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// values [rows from `row`] += weights x V for those elements of V that are not finite, as far as each row sees.
template <cpu_backend B>
void add_wild(const query_rows<B, bf16_pair>& tile, index_t row, index_t rows, const key_block& block,
              const float* weights, std::int64_t weight_stride) noexcept {
  for (index_t i = 0; i < rows; ++i) {
    float* values = tile.values_of(row + i);
    for (index_t j = block.hidden((row + i) / tile.group); j < block.visible((row + i) / tile.group); ++j) {
      const float  weight = to_float(pair_element(weights + i * weight_stride, j));
      const float* wild   = block.wild + std::int64_t{j / 2} * tile.value_stride;
      for (index_t c = 0; c < tile.value_stride; ++c)
        if (const bfloat16 value = pair_element(wild, 2 * std::int64_t{c} + j % 2); value.bits != 0)
          values[c] += weight * to_float(value);
    }
  }
}

/// Rows of a tile under way: the keys of a block that each sees, and whether its logits are known to be small, by the
/// lengths of its query and of the keys that it sees, as all before were. Their maxima then count as 0.
template <cpu_backend B>
struct rows_at_once {
  query_rows<B, bf16_pair> tile;
  index_t                  first;
  index_t                  count;
  index_t                  most = 0;                 // keys that the last row sees
  index_t hidden[score_rows_at_once<B, bf16_pair>];  // of adjusted scores: those that a row no longer sees
  index_t seen[score_rows_at_once<B, bf16_pair>];
  bool    small[score_rows_at_once<B, bf16_pair>];
  bool    all_small = true;

  CASCADA_INLINE rows_at_once(const query_rows<B, bf16_pair>& of, index_t from, index_t rows,
                              const key_block& block) noexcept
      : tile(of), first(from), count(rows) {
    const bool known = block.reach && !block.bias;
    index_t    token = first / tile.group, head_of_group = first % tile.group;
    for (index_t i = 0; i < count; ++i) {
      seen[i] = most = block.visible(token);
      small[i]       = most == 0 || (known && small_so_far(tile.maxima[first + i]) &&
                               small_product(tile.lengths[first + i], block.reach[most - 1]));
      all_small &= small[i];
      if (++head_of_group == tile.group) {
        head_of_group = 0;
        ++token;
      }
    }
  }

  CASCADA_INLINE float* sums(index_t i) const noexcept { return tile.sums + (first + i) * vec<B>::width; }

 private:
  CASCADA_INLINE static bool small_so_far(float maximum) noexcept {
    return maximum == 0 || maximum == std::numeric_limits<float>::lowest();
  }
  CASCADA_INLINE static bool small_product(float query, float key) noexcept {
    return query < unknown_length && key < unknown_length && query * key <= small_logit;
  }
};

/// Logits beyond this are rounded before they are compared: scores times scale, less their maximum, are exact, so that
/// of a maximum of 2^33 the rounding alone would be 2^8, and the weight of its key 2^(2^8).
inline constexpr float largest_exact_logit = 0x1p26f;

/// Turns a row's scores into logits, in place, and returns the largest of them and `at_least`.
template <cpu_backend B, bool Biased>
float round_logits(const score_row<B, Biased>& row, float* scores, index_t count, float at_least) noexcept {
  for (index_t j = 0; j < count; j += 16) {
    const __mmask16 mask = first_lanes<B>(count - j);
    _mm512_mask_storeu_ps(scores + j, mask, row.logits(j, mask, _mm512_setzero_ps()));
  }
  return score_row<B, false>{scores, nullptr, _mm512_set1_ps(1)}.maximum(count, at_least);
}

/// Takes the scores of rows into their softmax, as weights; those that see less than others get zeros for the other
/// keys. First the maxima of all rows, then the weights: within one row, the weights wait for the maximum.
template <cpu_backend B, bool Biased>
void absorb_rows(const rows_at_once<B>& rows, const key_block& block, float* scores, float* weights,
                 float* factors) noexcept {
  const index_t                   padded = whole_weights(rows.most);
  const query_rows<B, bf16_pair>& tile   = rows.tile;
  const __m512                    scale  = _mm512_set1_ps(tile.scale);
  const small_powers<B>           powers(tile.scale);
  float                           maxima[score_rows_at_once<B, bf16_pair>];
  const auto                      scores_of = [&](index_t i) {
    return score_row<B, Biased>{scores + i * score_stride<B, bf16_pair>,
                                Biased ? block.bias_of((rows.first + i) / tile.group) : nullptr, scale};
  };
  for (index_t i = 0; i < rows.count; ++i)
    if (!rows.small[i]) maxima[i] = scores_of(i).maximum(rows.seen[i], tile.maxima[rows.first + i]);
  for (index_t i = 0; i < rows.count; ++i, weights += weight_stride<B, bf16_pair>) {
    const auto absorb = [&](const auto& row) {
      return absorb_scores(row, maxima[i], weights, rows.seen[i], padded, tile.maxima[rows.first + i], rows.sums(i));
    };
    if (rows.small[i]) {
      absorb_small(powers, scores_of(i).scores, weights, rows.seen[i], padded, rows.sums(i));
    } else if (std::fabs(maxima[i]) <= largest_exact_logit) {
      factors[i] = absorb(scores_of(i));
    } else {
      float* logits = scores + i * score_stride<B, bf16_pair>;
      maxima[i]     = round_logits(scores_of(i), logits, rows.seen[i], tile.maxima[rows.first + i]);
      factors[i]    = absorb(score_row<B, false>{logits, nullptr, _mm512_set1_ps(1)});
    }
  }
}

/// Small rows: their scores become weights in short steps, which stay in the L1 cache beside the operands.
template <cpu_backend B, class Products>
void weigh_small(Products& products, const rows_at_once<B>& rows, const key_block& block, float* scores,
                 float* weights) noexcept {
  constexpr index_t      step   = panel_keys<B>;
  constexpr std::int64_t stride = step + vec<B>::width;
  const small_powers<B>  powers(rows.tile.scale);
  for (index_t from = 0; from < rows.most; from += step) {
    const index_t keys = rows.most - from < step ? rows.most - from : step, padded = whole_weights(keys);
    key_block     part = block;
    part.keys += panel_offset<B>(from, rows.tile.key_lanes);
    products.score(rows.tile, rows.first, rows.count, part, keys, scores, stride);
    for (index_t i = 0; i < rows.count; ++i) {
      const index_t sees = rows.seen[i] < from ? 0 : rows.seen[i] - from;
      absorb_small(powers, scores + i * stride, weights + i * weight_stride<B, bf16_pair> + from / 2,
                   sees < padded ? sees : padded, padded, rows.sums(i));
    }
  }
}

/// Scores of rows that are not small become logits, and those of keys that a row no longer sees -infinity.
template <cpu_backend B>
void adjust_rows(rows_at_once<B>& rows, const key_block& block, float* scores) noexcept {
  const bool changes = block.adjust->changes_logits();
  for (index_t i = 0; i < rows.count; ++i, scores += score_stride<B, bf16_pair>) {
    if (rows.small[i]) continue;
    if (changes) adjust_scores(rows.tile, rows.first + i, block, rows.seen[i], scores);
    for (index_t j = 0; j < rows.hidden[i]; ++j) scores[j] = -std::numeric_limits<float>::infinity();
  }
  if (changes) rows.tile.scale = 1;
}

/// The weights of small rows are relative to the logit 0.
template <cpu_backend B>
CASCADA_INLINE void settle_small(const rows_at_once<B>& rows) noexcept {
  for (index_t i = 0; i < rows.count; ++i)
    if (rows.small[i] && rows.seen[i] > 0) rows.tile.maxima[rows.first + i] = 0;
}

/// Takes a block of keys into a few rows.
template <cpu_backend B, class Products>
CASCADA_INLINE void attend_rows_by(Products& products, rows_at_once<B>& rows, const key_block& block,
                                   float* scores) noexcept {
  constexpr std::int64_t         stride  = score_stride<B, bf16_pair>;
  float*                         weights = scores + score_rows_at_once<B, bf16_pair> * stride;
  const query_rows<B, bf16_pair> tile    = rows.tile;
  const index_t                  row     = rows.first;
  float                          factors[Products::rows];
  for (float& factor : factors) factor = 1;
  if (rows.all_small) {
    weigh_small(products, rows, block, scores, weights);
  } else {
    products.score(tile, row, rows.count, block, rows.most, scores, stride);
    if (block.adjust) adjust_rows(rows, block, scores);
    block.bias && !block.adjust ? absorb_rows<B, true>(rows, block, scores, weights, factors)
                                : absorb_rows<B, false>(rows, block, scores, weights, factors);
  }
  settle_small(rows);
  products.add_values(tile, row, rows.count, weights, weight_stride<B, bf16_pair>, block, rows.most, factors);
  if (block.wild) add_wild(tile, row, rows.count, block, weights, weight_stride<B, bf16_pair>);
}

/// The same where scores are adjusted, or rows no longer see the block's first keys. Which rows count as small, and
/// where their sums begin, does not depend on the rows beside them: absorb_scores sums 128 keys at a time.
template <cpu_backend B, class Products>
void attend_adjusted_by(Products& products, const query_rows<B, bf16_pair>& tile, index_t row, index_t count,
                        const key_block& whole, float* scores) noexcept {
  const seen_ranges<Products::rows> seen(tile, row, count, whole, 2 * panel_keys<B>);
  if (!seen.any) return;
  const key_block block = without_first(seen.from, tile, whole);
  rows_at_once<B> rows(tile, row, count, block);
  rows.most      = seen.most - seen.from;
  rows.all_small = true;
  for (index_t i = 0; i < count; ++i) {
    const bool sees = seen.first[i] < seen.end[i];
    rows.seen[i]    = sees ? seen.end[i] - seen.from : 0;
    rows.hidden[i]  = sees ? seen.first[i] - seen.from : 0;
    rows.small[i]   = !sees || (rows.small[i] && seen.first[i] == 0 && !block.adjust->changes_logits());
    rows.all_small &= rows.small[i];
  }
  attend_rows_by(products, rows, block, scores);
}

/// Takes a block of keys into every row of the tile, by products of a kind (products.hpp). `scores` is room
/// for Products::rows rows of scores and of weights.
template <cpu_backend B, class Products>
void attend_block_by(Products&& products, const query_rows<B, bf16_pair>& tile, const key_block& block,
                     float* scores) noexcept {
  constexpr index_t step = std::remove_reference_t<Products>::rows;
  for (index_t row = 0; row < tile.rows; row += step) {
    const index_t count = tile.rows - row < step ? tile.rows - row : step;
    if (block.adjust) {
      attend_adjusted_by(products, tile, row, count, block, scores);
      continue;
    }
    rows_at_once<B> rows(tile, row, count, block);
    if (rows.most > 0) attend_rows_by(products, rows, block, scores);
  }
}

template <cpu_backend B>
void attend_block(const query_rows<B, bf16_pair>& tile, const key_block& block, float* scores) noexcept {
  with_products<B, bf16_pair>(block.kept, [&](auto&& products) { attend_block_by(products, tile, block, scores); });
}

#pragma GCC diagnostic pop

#endif

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
