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

  /// A capped logit, and the cap's derivative there.
  struct capped {
    float logit, steep;
  };

  /// What a step away from its query takes from a key's logit, in base 2.
  CASCADA_DEVICE CASCADA_INLINE float slope_of(index_t head) const {
    return slopes ? slopes[head] * std::numbers::log2e_v<float> : 0.0f;
  }

  /// cap tanh(product scale); NaN stays NaN.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE capped operator()(Gpu& gpu, float product) const {
    const float ratio = product * scale, size = __builtin_fabsf(ratio), square = size * size;
    const float power   = gpu.exp2(size * (-2 * std::numbers::log2e_v<float>));  // e^(-2 size)
    const float inverse = gpu.reciprocal(1 + power), large = (1 - power) * inverse;
    // x - x^3 / 3 + 2 x^5 / 15, within 2^-24 up to 0.1, where `large` would lose digits: here it has an error of 2^-20.
    const float small = __builtin_fmaf(__builtin_fmaf(square, 2.0f / 15, -1.0f / 3) * square, size, size);
    const float part  = __builtin_copysignf(size < 0.1f ? small : large, ratio);
    return {cap * part, 4 * power * inverse * inverse};  // 1 - part^2 would lose digits near 0
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
