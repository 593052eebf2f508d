#pragma once
// Products become logits where a cap has a say in them.

#include <numbers>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// What happens to products, in base 2. Softmaxes of such logits have the scale 1.
struct score_adjustment {
  float scale = 0;  // of the products, over the cap, if there is one
  float cap   = 0;  // logits come to lie in (-cap, cap) before anything is added to them; 0: they stay

  const float* slopes = nullptr;  // [heads], for the kernels that have them

  /// Logits over the cap, and the cap's derivative there.
  struct capped {
    floats_2 ratio, steep;
  };

  /// What a step away from its query takes from a key's logit, in base 2.
  CASCADA_DEVICE CASCADA_INLINE float slope_of(index_t head) const {
    return slopes ? slopes[head] * std::numbers::log2e_v<float> : 0.0f;
  }

  /// tanh(product scale) of two; NaN stays NaN.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE capped operator()(Gpu& gpu, floats_2 product) const {
    const auto     both     = [](float x) { return floats_2{x, x}; };
    const auto     power_of = [&](float x) { return gpu.exp2(-__builtin_fabsf(x)); };  // e^(-2 |ratio|)
    const floats_2 ratio = product * scale, square = ratio * ratio,
                   doubled = ratio * (2 * std::numbers::log2e_v<float>);
    const floats_2 power = {power_of(doubled[0]), power_of(doubled[1])}, below = power + 1.0f;
    const floats_2 inverse = {gpu.reciprocal(below[0]), gpu.reciprocal(below[1])}, large = (1.0f - power) * inverse;
    // x - x^3 / 3 + 2 x^5 / 15, within 2^-24 up to 0.1, where `large` would lose digits: here it has an error of 2^-20.
    const floats_2 inner = gpu.multiply_add(square, both(2.0f / 15), both(-1.0f / 3)) * square;
    const floats_2 small = gpu.multiply_add(ratio, inner, ratio);
    const auto     part  = [&](index_t i) {
      return __builtin_fabsf(ratio[i]) < 0.1f ? small[i] : __builtin_copysignf(large[i], ratio[i]);
    };
    return {floats_2{part(0), part(1)}, power * inverse * inverse * 4.0f};  // 1 - part^2 would lose digits near 0
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
