#pragma once
// Softmax attention over blocks of keys with bfloat16 products: of q and k as they are, and of weights rounded to
// bfloat16 with v.
//
// Scores, statistics and sums are float; the scale enters with the maximum, after the products. A row's sum is that of
// its rounded weights: their errors then cancel as far as the values are alike, where the sum of the exact weights
// would leave them all. Weights of keys that a row does not see are zero, and so are the values that are not finite
// (add_wild brings those to the rows that see them), so that rows that see less share the products of their tile.

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention_products.hpp"
#include "cascada/cpu/attention_tile.hpp"
#include "cascada/cpu/bf16_pairs.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::kernel {

/// Keys whose weights fill one register, as pairs.
inline constexpr index_t weight_keys = 32;

CASCADA_INLINE constexpr index_t whole_weights(index_t count) noexcept {
  return (count + weight_keys - 1) / weight_keys * weight_keys;
}

/// Lanes whose first, or whose second element is NaN or infinite: all bits of that half.
template <cpu_backend B, class Lanes>
CASCADA_INLINE Lanes wild_halves(Lanes pairs) noexcept {
  const Lanes first = (pairs & 0x7f80u) == 0x7f80u, second = (pairs & 0x7f80'0000u) == 0x7f80'0000u;
  return (first & 0xffffu) | (second & 0xffff'0000u);
}

/// Rows first, second [dim] side by side: pairs [stride], zero from `dim`. A row without data is zero. Returns whether
/// all is finite.
template <cpu_backend B>
CASCADA_INLINE bool interleave(strided_row<bfloat16> first, strided_row<bfloat16> second, index_t dim, index_t stride,
                               float* pairs) noexcept {
  using shorts         = integers<B, std::uint16_t>;
  using words          = integers<B, std::uint32_t>;
  constexpr auto width = vec<B>::width;
  const auto     load  = [&](const strided_row<bfloat16>& row, index_t c) {
    bfloat16 elements[width] = {};
    if (row.step == 1 && row.data && c + width <= dim) return shorts::load(row.data + c);
    for (index_t i = 0; row.data && i < width && c + i < dim; ++i) elements[i] = row.data[(c + i) * row.step];
    return shorts::load(elements);
  };
  typename words::lanes wild{};
  for (index_t c = 0; c < stride; c += width) {
    const auto both = __builtin_convertvector(load(first, c), typename words::lanes) |
                      __builtin_convertvector(load(second, c), typename words::lanes) << 16;
    wild |= wild_halves<B>(both);
    std::memcpy(pairs + c, &both, sizeof both);
  }
  std::uint32_t any = 0;
  for (index_t i = 0; i < width; ++i) any |= wild[i];
  return any == 0;
}

/// pairs [whole_weights(count) / 2, stride] of value(0) .. value(count - 1), zero beyond them. Returns whether all is
/// finite.
template <cpu_backend B, class Value>
bool pack_value_pairs(const Value& value, index_t count, index_t dim, index_t stride, float* pairs) noexcept {
  bool finite = true;
  for (index_t i = 0; i < whole_weights(count); i += 2, pairs += stride) {
    decltype(value(0)) first{nullptr, 1}, second{nullptr, 1};
    if (i < count) first = value(i);
    if (i + 1 < count) second = value(i + 1);
    finite = interleave<B>(first, second, dim, stride, pairs) && finite;
  }
  return finite;
}

/// Moves what is not finite from `lanes` lanes of pairs to `wild`, and leaves zeros.
template <cpu_backend B>
void separate_wild(float* pairs, std::int64_t lanes, float* wild) noexcept {
  using words = integers<B, std::uint32_t>;
  for (std::int64_t i = 0; i < lanes; i += vec<B>::width) {
    const auto both = words::load(pairs + i), halves = wild_halves<B>(both);
    const auto finite = both & ~halves, other = both & halves;
    std::memcpy(pairs + i, &finite, sizeof finite);
    std::memcpy(wild + i, &other, sizeof other);
  }
}

/// values [rows from `row`] += weights x V for those elements of V that are not finite, as far as each row sees.
template <cpu_backend B>
void add_wild(const query_rows<B, bf16_pair>& tile, index_t row, index_t rows, const key_block& block,
              const float* weights, std::int64_t weight_stride) noexcept {
  const auto element = [](const float* lanes, std::int64_t i) {
    bfloat16 value;
    std::memcpy(&value, reinterpret_cast<const char*>(lanes) + i * std::int64_t{sizeof value}, sizeof value);
    return value;
  };
  for (index_t i = 0; i < rows; ++i) {
    float* values = tile.values_of(row + i);
    for (index_t j = 0; j < block.visible((row + i) / tile.group); ++j) {
      const float  weight = to_float(element(weights + i * weight_stride, j));
      const float* wild   = block.wild + std::int64_t{j / 2} * tile.value_stride;
      for (index_t c = 0; c < tile.value_stride; ++c)
        if (const bfloat16 value = element(wild, 2 * std::int64_t{c} + j % 2); value.bits != 0)
          values[c] += weight * to_float(value);
    }
  }
}

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)

#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12's bug 105593, as in simd.hpp
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// powers = 2^x with a relative error below 2^-13, a sixteenth of what rounding to bfloat16 adds; exactly 0 far below.
/// Step by step for all vectors: a scheduler sees too little of one chain after the other to overlap them.
template <cpu_backend B, index_t Vectors>
CASCADA_INLINE void short_exp2(const __m512 (&x)[Vectors], __m512 (&powers)[Vectors]) noexcept {
  __m512 part[Vectors];
#pragma GCC unroll 8
  for (index_t v = 0; v < Vectors; ++v) {
    part[v]   = _mm512_reduce_ps(x[v], _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
    powers[v] = _mm512_set1_ps(0.0780245215f);  // on [0, 1], of least relative error
  }
#pragma GCC unroll 3
  for (const float coefficient : {0.226067156f, 0.695833564f, 0.999925196f})
#pragma GCC unroll 8
    for (index_t v = 0; v < Vectors; ++v) powers[v] = _mm512_fmadd_ps(powers[v], part[v], _mm512_set1_ps(coefficient));
#pragma GCC unroll 8
  for (index_t v = 0; v < Vectors; ++v) powers[v] = _mm512_scalef_ps(powers[v], x[v]);  // x 2^floor(x)
}

/// A row's scores as logits: x scale + bias, if there is one.
template <cpu_backend B, bool Biased>
struct score_row {
  const float* scores;
  const float* bias;
  __m512       scale;

  /// Those of lanes `mask` from key j, less `below`; NaN and large ones stay what they are.
  CASCADA_INLINE __m512 logits(index_t j, __mmask16 mask, __m512 below) const noexcept {
    const __m512 score = _mm512_maskz_loadu_ps(mask, scores + j);
    if constexpr (Biased) below = _mm512_sub_ps(below, _mm512_maskz_loadu_ps(mask, bias + j));
    return _mm512_fmsub_ps(score, scale, below);
  }

  /// The largest logit and `at_least`.
  CASCADA_INLINE float maximum(index_t count, float at_least) const noexcept {
    const __m512 lowest = _mm512_set1_ps(std::numeric_limits<float>::lowest());
    __m512       top[2] = {lowest, lowest};
    index_t      j      = 0;
    const auto   take   = [&](__m512& most, index_t from, __mmask16 mask) {
      const __m512 value =
          Biased ? logits(from, mask, _mm512_setzero_ps()) : _mm512_maskz_loadu_ps(mask, scores + from);
      most = _mm512_mask_max_ps(most, mask, value, most);  // of a NaN, `most`
    };
    for (; j + weight_keys <= count; j += weight_keys) take(top[0], j, 0xffff), take(top[1], j + 16, 0xffff);
    if (j < count) take(top[0], j, lanes(count - j));
    if (j + 16 < count) take(top[1], j + 16, lanes(count - j - 16));
    top[0] = _mm512_max_ps(top[0], top[1]);
    if constexpr (!Biased) top[0] = _mm512_mul_ps(top[0], scale);
    const bool higher = _mm512_cmp_ps_mask(top[0], _mm512_set1_ps(at_least), _CMP_GT_OQ) != 0;
    return higher ? _mm512_reduce_max_ps(top[0]) : at_least;  // seldom, after the first keys
  }

  /// The first `count` lanes, as far as a vector goes.
  CASCADA_INLINE static __mmask16 lanes(index_t count) noexcept {
    return count >= 16 ? __mmask16{0xffff} : count <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << count) - 1);
  }
};

/// The lower and the upper 16 of 32 weights, as pairs in the order of the keys.
template <cpu_backend B>
CASCADA_INLINE __m512i round_weights(__m512 lower, __m512 upper) noexcept {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(upper, lower));
}

/// sum + both elements of each pair.
template <cpu_backend B>
CASCADA_INLINE __m512 add_weights(__m512i pairs, __m512 sum) noexcept {
  const __m512 second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff'0000u))));
  return _mm512_add_ps(_mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))), second);
}

/// The weights of `Registers` times 32 keys from j, as pairs, and their sums; `Partly`: of those below `count`.
template <index_t Registers, bool Partly = false, cpu_backend B, bool Biased>
CASCADA_INLINE void weigh(const score_row<B, Biased>& row, index_t j, index_t count, __m512 below, float* weights,
                          __m512 (&total)[2]) noexcept {
  constexpr index_t vectors = 2 * Registers;
  __m512            logits[vectors], powers[vectors];
  const auto        mask = [&](index_t v) { return Partly ? row.lanes(count - j - 16 * v) : __mmask16{0xffff}; };
#pragma GCC unroll 8
  for (index_t v = 0; v < vectors; ++v) logits[v] = row.logits(j + 16 * v, mask(v), below);
  short_exp2<B>(logits, powers);
  if constexpr (Partly)
    for (index_t v = 0; v < vectors; ++v) powers[v] = _mm512_maskz_mov_ps(mask(v), powers[v]);
#pragma GCC unroll 4
  for (index_t r = 0; r < Registers; ++r) {
    const auto pairs = round_weights<B>(powers[2 * r], powers[2 * r + 1]);
    _mm512_storeu_si512(weights + (j + weight_keys * r) / 2, pairs);
    total[r % 2] = add_weights<B>(pairs, total[r % 2]);
  }
}

/// Turns a row's first `count` scores into weights relative to the logit `now` and takes them into its softmax: the
/// weights as pairs, in place and zero up to `padded` keys, and their sum. Returns the factor by which everything
/// before shrinks. A NaN score makes its weight, so the whole row, NaN.
template <cpu_backend B, bool Biased>
CASCADA_INLINE float absorb_scores(const score_row<B, Biased>& row, float now, float* weights, index_t count,
                                   index_t padded, float& maximum, float* sums) noexcept {
  const __m512 below = _mm512_set1_ps(now), drop[1] = {_mm512_set1_ps(maximum - now)};
  __m512       shrink[1], total[2];
  short_exp2<B>(drop, shrink);
  total[0] = _mm512_mul_ps(_mm512_loadu_ps(sums), shrink[0]), total[1] = _mm512_setzero_ps();
  index_t j = 0;
  for (; j + 4 * weight_keys <= count; j += 4 * weight_keys) weigh<4>(row, j, count, below, weights, total);
  for (; j + weight_keys <= count; j += weight_keys) weigh<1>(row, j, count, below, weights, total);
  if (j < count) weigh<1, true>(row, j, count, below, weights, total), j += weight_keys;
  for (; j < padded; j += weight_keys) _mm512_storeu_ps(weights + j / 2, _mm512_setzero_ps());
  _mm512_storeu_ps(sums, _mm512_add_ps(total[0], total[1]));
  maximum = now;
  return _mm512_cvtss_f32(shrink[0]);
}

/// Turns a row's first `count` weights into pairs, in place, zero up to a whole register, which enter its sum.
template <cpu_backend B>
CASCADA_INLINE void round_row(float* weights, index_t count, float* sums) noexcept {
  using row    = score_row<B, false>;
  __m512 total = _mm512_loadu_ps(sums);
  for (index_t j = 0; j < count; j += weight_keys) {
    const __m512 first  = _mm512_maskz_loadu_ps(row::lanes(count - j), weights + j);
    const __m512 second = _mm512_maskz_loadu_ps(row::lanes(count - j - 16), weights + j + 16);
    const auto   pairs  = round_weights<B>(first, second);
    _mm512_storeu_si512(weights + j / 2, pairs);
    total = add_weights<B>(pairs, total);
  }
  _mm512_storeu_ps(sums, total);
}

/// The same for logits that have their scale.
template <cpu_backend B>
CASCADA_INLINE float absorb_logits(float* logits, index_t count, float& maximum, float* sums) noexcept {
  const score_row<B, false> row{logits, nullptr, _mm512_set1_ps(1)};
  return absorb_scores(row, row.maximum(count, maximum), logits, count, count, maximum, sums);
}

/// Takes the scores of rows [row, row + count) of a tile into their softmax; those that see less than the `padded`
/// keys that are there get zeros for the others. First the maxima of all rows, then the weights: within one row, the
/// weights wait for the maximum.
template <cpu_backend B, bool Biased>
void absorb_rows(const query_rows<B, bf16_pair>& tile, index_t row, index_t count, const key_block& block,
                 index_t padded, float* scores, std::int64_t stride, float* factors) noexcept {
  const __m512 scale = _mm512_set1_ps(tile.scale);
  index_t      seen[score_rows_at_once<B, bf16_pair>];
  float        maxima[score_rows_at_once<B, bf16_pair>];
  const auto   scores_of = [&](index_t i) {
    return score_row<B, Biased>{scores + i * stride, Biased ? block.bias_of((row + i) / tile.group) : nullptr, scale};
  };
  for (index_t i = 0; i < count; ++i) {
    seen[i]   = block.visible((row + i) / tile.group);
    maxima[i] = scores_of(i).maximum(seen[i], tile.maxima[row + i]);
  }
  for (index_t i = 0; i < count; ++i)
    factors[i] = absorb_scores(scores_of(i), maxima[i], scores + i * stride, seen[i], padded, tile.maxima[row + i],
                               tile.sums + (row + i) * vec<B>::width);
}

#pragma GCC diagnostic pop

/// Takes a block of keys into every row of the tile, by products of a kind (attention_products.hpp). `scores` is room
/// for Products::rows rows.
template <cpu_backend B, class Products>
void attend_block_by(Products&& products, const query_rows<B, bf16_pair>& tile, const key_block& block,
                     float* scores) noexcept {
  constexpr index_t      step   = std::remove_reference_t<Products>::rows;
  constexpr std::int64_t stride = score_stride<B, bf16_pair>;
  for (index_t row = 0; row < tile.rows; row += step) {
    const index_t rows = tile.rows - row < step ? tile.rows - row : step;
    const index_t most = block.visible((row + rows - 1) / tile.group), padded = whole_weights(most);
    if (most == 0) continue;
    products.score(tile, row, rows, block, most, scores, stride);
    float factors[step];
    block.bias ? absorb_rows<B, true>(tile, row, rows, block, padded, scores, stride, factors)
               : absorb_rows<B, false>(tile, row, rows, block, padded, scores, stride, factors);
    products.add_values(tile, row, rows, scores, stride, block.values, most, factors);
    if (block.wild) add_wild(tile, row, rows, block, scores, stride);
  }
}

template <cpu_backend B>
void attend_block(const query_rows<B, bf16_pair>& tile, const key_block& block, float* scores) noexcept {
  with_products<B, bf16_pair>([&](auto&& products) { attend_block_by(products, tile, block, scores); });
}

#endif

}  // namespace cascada::kernel
