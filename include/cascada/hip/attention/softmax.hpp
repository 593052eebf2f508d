#pragma once
// Softmax on the fly: each lane's query takes in 16 of 32 logits, its other half of the wave the rest.
//
// Weights are relative to a logit that was the largest when it was last looked for. Any other does as well, while no
// weight is too large, which their sum tells: once the first keys are in, a turn hardly ever looks for a maximum,
// exchanges it between lanes, or scales what was summed.

#include <bit>
#include <cstdint>
#include <limits>

#include "cascada/hip/attention/segments.hpp"
#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A top, over the scale, as a logit. A plain product might be fused with what is subtracted from it.
CASCADA_DEVICE CASCADA_INLINE float top_logit_of(float top, float scale) { return __builtin_fmaf(top, scale, 0.0f); }

/// What a softmax's weighted values weigh in an answer, beside another's average, if there is one, and a logit without
/// a value; merged by log-sum-exp.
struct softmax_shares {
  float own, other, log_sum;

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE softmax_shares(Gpu& gpu, float top_logit, float sum, float sink_logit,
                                               float other_log_sum = -std::numeric_limits<float>::infinity()) {
    constexpr float lowest    = -std::numeric_limits<float>::infinity();
    const float     top       = __builtin_fmaxf(__builtin_fmaxf(top_logit, other_log_sum), sink_logit);
    const float     reference = top == lowest ? 0.0f : top;
    const float     share = gpu.exp2(top_logit - reference), others = gpu.exp2(other_log_sum - reference);
    const float     total   = sum * share + others + gpu.exp2(sink_logit - reference);
    const float     inverse = total == 0 ? 0.0f : 1.0f / total;
    own = share * inverse, other = others * inverse;
    log_sum = top + (total == 0 ? 0.0f : gpu.log2(total));
  }
};

/// One query's softmax so far: O^T, unless Dim is 0, and of this half's keys the sum of weights.
template <matrix_scalar Scalar, index_t Dim>
struct softmax {
  sums_16       out[Dim == 0 ? 1 : Dim / 32] = {};
  float         top                          = -infinity;  // what exponents are relative to, over the scale
  float         sum                          = 0;
  std::uint64_t large                        = 0;  // lanes of the wave whose top is too large for plain exponents

  static constexpr float highest_sum = 1024;  // of 16 weights: far from the largest float16

  /// Takes in logits / scale. Weights come out as the operand of the second product.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void take_in(Gpu& gpu, const sums_16& logits, float scale, fragment (&weights)[4]) {
    float part = weigh(gpu, logits, scale, base_of(top, scale), 0.0f, weights);
    // Not before the first keys: relative to minus infinity the sum is infinite, or NaN.
    if (const std::uint64_t high = gpu.ballot(!(part <= highest_sum)) | large; high != 0) [[unlikely]] {
      raise(gpu, logits, scale, high);
      const float from = base_of(reference(), scale);
      part             = weigh(gpu, logits, scale, from, rest_of(reference(), scale, from), weights);
    }
    sum += part;
  }

  /// Keeps this for later, and goes on after what was kept.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep(Gpu& gpu, const kept_softmax& in) {
#pragma GCC unroll 8
    for (sums_16& part : out) settle(gpu, part);
    in.at[in.sums] = top, in.at[in.sums + 1] = sum;
    std::uint32_t place = in.first;
#pragma GCC unroll 32
    for (index_t i = 0; i < Dim / 8; ++i, place += in.stride) {
      gpu.keep(place);
      store_sums(in.at + place, four(i));
    }
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void join(Gpu& gpu, const kept_softmax& in, float scale) {
#pragma GCC unroll 8
    for (sums_16& part : out) settle(gpu, part);
    const joint_softmax joint(gpu, in.at[in.sums], top, scale);
    top = joint.top, sum = joint(in.at[in.sums + 1], sum);
    std::uint32_t place = in.first;
#pragma GCC unroll 32
    for (index_t i = 0; i < Dim / 8; ++i, place += in.stride) {
      gpu.keep(place);
      if (i % 4 == 0) gpu.schedule_barrier();  // few at a time, for want of registers
      const sums_4 before = load_sums(in.at + place);
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) out[i / 4][i % 4 * 4 + e] = joint(before[e], out[i / 4][i % 4 * 4 + e]);
    }
  }

 private:
  /// Where a SIMD has one wave, O lies in accumulation registers. Rare uses say so: else the compiler copies it ahead
  /// of them, in every turn.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void settle(Gpu& gpu, sums_16& part) {
    if constexpr (Dim > 128) gpu.settle(part);
  }

  /// Elements 8 i + 4 half + 0..3 of O.
  CASCADA_DEVICE CASCADA_INLINE sums_4 four(index_t i) const {
    const sums_16& from = out[i / 4];
    const index_t  v    = i % 4 * 4;
    return sums_4{from[v], from[v + 1], from[v + 2], from[v + 3]};
  }

  /// In log2, what weights lose on average where they are cut off to Scalars: they are larger by as much, so that sums
  /// are right. A weight of 1 stays 1.
  static constexpr float lost = std::same_as<Scalar, bfloat16> ? 0.00406f : 0.000508f;

  static constexpr float infinity    = std::numeric_limits<float>::infinity();
  static constexpr float least_large = 0x1p12f;  // below, rounding takes 2^-13 at most: less than weights lose

  /// Also while the query has seen no key yet.
  CASCADA_DEVICE CASCADA_INLINE float reference() const { return top == -infinity ? 0.0f : top; }

  /// Whether a logit's rounding, which products that are fused with a sum do not have, would show in weights.
  CASCADA_DEVICE CASCADA_INLINE static bool is_large(float logit) {
    return __builtin_fabsf(logit) >= least_large && __builtin_fabsf(logit) < infinity;
  }
  /// What exponents are relative to.
  CASCADA_DEVICE CASCADA_INLINE static float base_of(float logit, float scale) {
    return __builtin_fmaf(logit, scale, -lost);
  }
  /// What rounding added to that of a large logit: with it, the largest logit would not weigh 1, but up to infinity.
  CASCADA_DEVICE CASCADA_INLINE static float rest_of(float logit, float scale, float base) {
    return is_large(base) ? __builtin_fmaf(logit, scale, -base) - lost : 0.0f;
  }

  /// Weights, exp2 of logits relative to `from` + `rest`, and the sum of what they are as Scalar, by the matrix unit:
  /// so a key that outweighs all others gives its very value, although it is not the reference. That sum also makes
  /// weights that are cut off nearly as good as rounded ones, which take 16 instructions more: averages err only by
  /// what weights lose more or less than others.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static float weigh(Gpu& gpu, const sums_16& logits, float scale, float from, float rest,
                                                   fragment (&weights)[4]) {
    const auto power = [&](index_t v) {
      return gpu.multiply_add(floats_2{logits[v], logits[v + 1]}, floats_2{scale, scale}, floats_2{-from, -from}) -
             rest;
    };
    const auto one  = from_float<Scalar>(1.0f).bits;
    sums_4     sums = {};
#pragma GCC unroll 4
    for (index_t s = 0; s < 4; ++s) {
      const floats_2 a = power(4 * s), b = power(4 * s + 2);
      weights[s] = gpu.template cut_off<Scalar>(gpu.exp2(a[0]), gpu.exp2(a[1]), gpu.exp2(b[0]), gpu.exp2(b[1]));
      sums       = gpu.template mfma_4x4x4<Scalar>(fragment{one, one, one, one}, weights[s], sums);
    }
    return sums[0];  // as all rows: those of ones
  }

  /// Where a half's sum is `high`, or its top large, the query's largest logit so far becomes `top`; what was summed
  /// shrinks.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void raise(Gpu& gpu, const sums_16& logits, float scale, std::uint64_t high) {
    float largest = logits[0];
#pragma GCC unroll 15
    for (index_t v = 1; v < 16; ++v) largest = __builtin_fmaxf(largest, logits[v]);
    largest            = __builtin_fmaxf(largest, gpu.shuffle(largest, gpu.lane() ^ 32));
    const float before = top;
    // Others stay as they are: what a query gets must not depend on who shares its wave.
    if (((high | high >> 32) >> gpu.lane() % 32 & 1) != 0) top = __builtin_fmaxf(before, largest);
    large              = gpu.ballot(is_large(base_of(top, scale)));
    const float shrink = gpu.exp2((before - reference()) * scale);
    sum *= shrink;
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) {
      settle(gpu, out[t]);
      out[t] *= shrink;
      settle(gpu, out[t]);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
