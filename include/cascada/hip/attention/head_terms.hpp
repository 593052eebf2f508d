#pragma once
// What a call brings along for each query head.

#include <limits>

#include "cascada/hip/base/device.hpp"
#include "cascada/sink_logit.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Logits that belong to no key: one term more in the denominator of a head's softmax.
struct head_logits {
  const float* logits = nullptr;  // [heads]; null: none

  /// In base 2; -infinity: none.
  CASCADA_DEVICE CASCADA_INLINE float of(index_t head) const {
    return logits ? detail::sink_logit_in_base_2(logits[head]) : -std::numeric_limits<float>::infinity();
  }
};

/// What a call has for its heads, in device memory.
struct head_terms {
  const float* sink_logits = nullptr;  // [heads], or null
  const float* slopes      = nullptr;  // the same
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
