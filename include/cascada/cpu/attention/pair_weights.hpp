#pragma once
// Weights of attention as pairs of bfloat16, of a row's scores, and their sums.
//
// Scores, statistics and sums are float; the scale enters with the maximum, after the products. A row's sum is that of
// its rounded weights: their errors then cancel as far as the values are alike, where the sum of the exact weights
// would leave them all.

#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Keys whose weights fill one register, as pairs.
inline constexpr index_t weight_keys = 32;

CASCADA_INLINE constexpr index_t whole_weights(index_t count) noexcept {
  return (count + weight_keys - 1) / weight_keys * weight_keys;
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
CASCADA_INLINE void short_exp2(const __m512 (&x)[extent(Vectors)], __m512 (&powers)[extent(Vectors)]) noexcept {
  __m512 part[extent(Vectors)];
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
    if (j < count) take(top[0], j, first_lanes<B>(count - j));
    if (j + 16 < count) take(top[1], j + 16, first_lanes<B>(count - j - 16));
    top[0] = _mm512_max_ps(top[0], top[1]);
    if constexpr (!Biased) top[0] = _mm512_mul_ps(top[0], scale);
    const bool higher = _mm512_cmp_ps_mask(top[0], _mm512_set1_ps(at_least), _CMP_GT_OQ) != 0;
    return higher ? _mm512_reduce_max_ps(top[0]) : at_least;  // seldom, after the first keys
  }
};

/// sum + both elements of each pair.
template <cpu_backend B>
CASCADA_INLINE __m512 add_weights(__m512i pairs, __m512 sum) noexcept {
  const __m512 first  = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  const __m512 second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff'0000u))));
  return _mm512_add_ps(sum, _mm512_add_ps(first, second));
}

/// 2^logit of small logits as bfloat16, 32 at a time, in fixed point: a sum with a float that has 8 fraction bits puts
/// the logit, 8.8, into the lower half of its bits; but for a shift and what a table says, 1 + f for 2^f, these are
/// those of the power. The error is 1.2 times that of rounding 2^logit, root mean square.
template <cpu_backend B>
class small_powers {
 public:
  CASCADA_INLINE explicit small_powers(float scale) noexcept
      : scale_(_mm512_set1_ps(scale)),
        lower_(_mm512_loadu_si512(power_table)),
        upper_(_mm512_loadu_si512(power_table + 32)),
        evens_(_mm512_loadu_si512(even_words)) {}

  /// Of 32 scores, times the scale, in their order.
  CASCADA_INLINE __m512i operator()(const float* scores) const noexcept {
    const __m512  bias  = _mm512_set1_ps(49152 + 127);  // 1.5 x 2^15, and that of an exponent
    const __m512i first = _mm512_castps_si512(_mm512_fmadd_ps(_mm512_loadu_ps(scores), scale_, bias));
    const __m512i next  = _mm512_castps_si512(_mm512_fmadd_ps(_mm512_loadu_ps(scores + 16), scale_, bias));
    const __m512i fixed = _mm512_permutex2var_epi16(first, evens_, next);
    const __m512i above = _mm512_permutex2var_epi16(lower_, _mm512_srli_epi16(fixed, 2), upper_);
    return _mm512_srli_epi16(_mm512_sub_epi16(fixed, above), 1);
  }

 private:
  /// What 1 + f exceeds 2^f by, in 256ths, for f in steps of 1/64, less the half of the last place that rounding adds:
  /// chosen so that the weights have the least mean square error.
  static constexpr std::uint16_t power_table[64] = {0,  1,  2,  4,  4,  6,  7,  8,  9,  10, 10, 12, 12, 13, 14, 15,
                                                    15, 16, 17, 17, 18, 18, 19, 19, 20, 20, 20, 21, 21, 21, 21, 21,
                                                    21, 22, 22, 21, 21, 21, 21, 21, 21, 20, 20, 19, 19, 19, 18, 17,
                                                    17, 16, 15, 15, 13, 13, 12, 11, 9,  9,  7,  6,  5,  3,  2,  1};
  static constexpr std::uint16_t even_words[32]  = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                    32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62};

  __m512  scale_;
  __m512i lower_, upper_, evens_;
};

/// Turns `count` scores of a row whose logits are small into weights, which enter its sum: as pairs, zero up to
/// `padded` keys.
template <cpu_backend B>
CASCADA_INLINE void absorb_small(const small_powers<B>& powers, const float* scores, float* weights, index_t count,
                                 index_t padded, float* sums) noexcept {
  __m512     total = _mm512_loadu_ps(sums);
  const auto take  = [&](index_t j, __mmask32 mask) {
    const __m512i pairs = _mm512_maskz_mov_epi16(mask, powers(scores + j));
    _mm512_storeu_si512(weights + j / 2, pairs);
    total = add_weights<B>(pairs, total);
  };
  index_t j = 0;
  for (; j + weight_keys <= count; j += weight_keys) take(j, 0xffff'ffffu);
  if (j < count) take(j, (1u << (count - j)) - 1), j += weight_keys;
  for (; j < padded; j += weight_keys) _mm512_storeu_ps(weights + j / 2, _mm512_setzero_ps());
  _mm512_storeu_ps(sums, total);
}

/// The weights of `Registers` times 32 keys from j, as pairs, and their sums; `Partly`: of those below `count`.
template <index_t Registers, bool Partly = false, cpu_backend B, bool Biased>
CASCADA_INLINE void weigh(const score_row<B, Biased>& row, index_t j, index_t count, __m512 below, float* weights,
                          __m512 (&total)[2]) noexcept {
  constexpr index_t vectors = 2 * Registers;
  __m512            logits[extent(vectors)], powers[extent(vectors)];
  const auto        mask = [&](index_t v) { return Partly ? first_lanes<B>(count - j - 16 * v) : __mmask16{0xffff}; };
#pragma GCC unroll 8
  for (index_t v = 0; v < vectors; ++v) logits[v] = row.logits(j + 16 * v, mask(v), below);
  short_exp2<B, vectors>(logits, powers);
  if constexpr (Partly)
    for (index_t v = 0; v < vectors; ++v) powers[v] = _mm512_maskz_mov_ps(mask(v), powers[v]);
#pragma GCC unroll 4
  for (index_t r = 0; r < Registers; ++r) {
    const auto pairs = _mm512_castps_si512(round_to_pairs<B>({powers[2 * r]}, {powers[2 * r + 1]}).value);
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
  short_exp2<B, 1>(drop, shrink);
  total[0]  = _mm512_mul_ps(_mm512_loadu_ps(sums), shrink[0]);
  total[1]  = _mm512_setzero_ps();
  index_t j = 0;
  for (; j + 4 * weight_keys <= count; j += 4 * weight_keys) weigh<4>(row, j, count, below, weights, total);
  for (; j + weight_keys <= count; j += weight_keys) weigh<1>(row, j, count, below, weights, total);
  if (j < count) weigh<1, true>(row, j, count, below, weights, total), j += weight_keys;
  for (; j < padded; j += weight_keys) _mm512_storeu_ps(weights + j / 2, _mm512_setzero_ps());
  _mm512_storeu_ps(sums, _mm512_add_ps(total[0], total[1]));
  maximum = now;
  return _mm512_cvtss_f32(shrink[0]);
}

#pragma GCC diagnostic pop

#endif

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
