#pragma once
// What a call brings along for each query head.

#include <limits>
#include <numbers>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Logits that belong to no key: one term more in the denominator of a head's softmax.
struct head_logits {
  const float* logits = nullptr;  // [heads]; null: none

  /// In base 2. -infinity: none; infinity counts as the largest float; NaN stays.
  CASCADA_DEVICE CASCADA_INLINE float of(index_t head) const {
    if (!logits) return -std::numeric_limits<float>::infinity();
    constexpr float largest = std::numeric_limits<float>::max();
    const float     logit   = logits[head] * std::numbers::log2e_v<float>;
    return logit > largest ? largest : logit;
  }
};

/// What a call has for its heads, in device memory.
struct head_terms {
  const float* sink_logits = nullptr;  // [heads], or null
  const float* slopes      = nullptr;  // the same
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
