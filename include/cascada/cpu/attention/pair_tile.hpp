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
#include "cascada/cpu/attention/pair_weights.hpp"
#include "cascada/cpu/attention/products.hpp"
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

/// Bits of 2^40, a large value, and of infinity: without sign, bits order as values do.
inline constexpr std::uint16_t large_bits = (127 + 40) << 7, infinite_bits = 0x7f80;

/// Elements whose bits are at least `bits`, the sign aside: bit 2i the first element of lane i, 2i + 1 the second.
template <cpu_backend B>
CASCADA_INLINE __mmask32 elements_from(std::uint16_t bits, __m512i pairs) noexcept {
  const __m512i sizes = _mm512_and_si512(pairs, _mm512_set1_epi16(0x7fff));
  return _mm512_cmpge_epu16_mask(sizes, _mm512_set1_epi16(static_cast<short>(bits)));
}

/// 16 elements of a row from c, zero from `dim` and without data.
template <cpu_backend B>
CASCADA_INLINE __m256i load_elements(const strided_row<bfloat16>& row, index_t c, index_t dim) noexcept {
  bfloat16 elements[16] = {};
  if (row.step == 1 && row.data && c + 16 <= dim)
    return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(row.data + c)));
  for (index_t i = 0; row.data && i < 16 && c + i < dim; ++i) elements[i] = row.data[(c + i) * row.step];
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(elements)));
}

/// Rows first, second [dim] side by side: pairs [stride], zero from `dim`. A row without data is zero. Returns which
/// places have large elements, as elements_from.
template <cpu_backend B>
CASCADA_INLINE __mmask32 interleave(const strided_row<bfloat16>& first, const strided_row<bfloat16>& second,
                                    index_t dim, index_t stride, float* pairs) noexcept {
  __m512i most = _mm512_setzero_si512();
  for (index_t c = 0; c < stride; c += 16) {
    const __m512i lower = _mm512_cvtepu16_epi32(load_elements<B>(first, c, dim));
    const __m512i upper = _mm512_cvtepu16_epi32(load_elements<B>(second, c, dim));
    const __m512i both  = _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16));
    most                = _mm512_max_epu16(most, _mm512_and_si512(both, _mm512_set1_epi16(0x7fff)));
    _mm512_storeu_si512(pairs + c, both);
  }
  return elements_from<B>(large_bits, most);
}

/// Of pairs [stride]: their places with large elements that are finite, and with such that are not.
struct large_places {
  __mmask32 finite = 0, other = 0;
};
template <cpu_backend B>
large_places find_large(const float* pairs, index_t stride) noexcept {
  large_places found;
  for (index_t c = 0; c < stride; c += 16) {
    const __m512i   both = _mm512_loadu_si512(pairs + c);
    const __mmask32 wild = elements_from<B>(infinite_bits, both);
    found.other |= wild;
    found.finite |= elements_from<B>(large_bits, both) & ~wild;
  }
  return found;
}

/// pairs [whole_weights(count) / 2, stride] of value(0) .. value(count - 1), zero beyond them. Returns whether all is
/// finite. `large(j)` is told of values with a large element that is finite.
template <cpu_backend B, class Value, class Large>
bool pack_value_pairs(const Value& value, index_t count, index_t dim, index_t stride, float* pairs,
                      const Large& large) noexcept {
  constexpr __mmask32 firsts = 0x5555'5555;
  bool                finite = true;
  for (index_t i = 0; i < whole_weights(count); i += 2, pairs += stride) {
    decltype(value(0)) first{nullptr, 1}, second{nullptr, 1};
    if (i < count) first = value(i);
    if (i + 1 < count) second = value(i + 1);
    if (interleave<B>(first, second, dim, stride, pairs) == 0) continue;
    const large_places found = find_large<B>(pairs, stride);
    if (found.finite & firsts) large(i);
    if (found.finite & ~firsts) large(i + 1);
    finite = finite && found.other == 0;
  }
  return finite;
}
template <cpu_backend B, class Value>
bool pack_value_pairs(const Value& value, index_t count, index_t dim, index_t stride, float* pairs) noexcept {
  return pack_value_pairs<B>(value, count, dim, stride, pairs, [](index_t) {});
}

/// Moves what is not finite from `lanes` lanes of pairs to `wild`, and leaves zeros.
template <cpu_backend B>
void separate_wild(float* pairs, std::int64_t lanes, float* wild) noexcept {
  for (std::int64_t i = 0; i < lanes; i += 16) {
    const __m512i   both   = _mm512_loadu_si512(pairs + i);
    const __mmask32 places = elements_from<B>(infinite_bits, both);
    _mm512_storeu_si512(wild + i, _mm512_maskz_mov_epi16(places, both));
    _mm512_storeu_si512(pairs + i, _mm512_maskz_mov_epi16(~places, both));
  }
}

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
    index_t    token = first / tile.group, member = first % tile.group;
    for (index_t i = 0; i < count; ++i) {
      seen[i] = most = block.visible(token);
      small[i]       = most == 0 || (known && small_so_far(tile.maxima[first + i]) &&
                               small_product(tile.lengths[first + i], block.reach[most - 1]));
      all_small &= small[i];
      if (++member == tile.group) {
        member = 0;
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
  with_products<B, bf16_pair>([&](auto&& products) { attend_block_by(products, tile, block, scores); });
}

#pragma GCC diagnostic pop

#endif

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
