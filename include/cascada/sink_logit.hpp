#pragma once
// A head's sink logit (attention_call.hpp) as softmaxes in base 2 add it up.

#include <concepts>
#include <limits>
#include <numbers>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// In base 2, and within the floats: infinity counts as the largest. NaN stays.
template <std::floating_point Real>
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr Real sink_logit_in_base_2(Real logit) noexcept {
  constexpr auto largest = static_cast<Real>(std::numeric_limits<float>::max());
  const Real     base_2  = logit * std::numbers::log2e_v<Real>;
  return base_2 > largest ? largest : base_2 < -largest ? -largest : base_2;
}

}  // namespace cascada::inline CASCADA_ABI::detail
