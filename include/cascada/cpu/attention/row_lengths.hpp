#pragma once
// Lengths of query and key rows of bfloat16, which bound their logits.

#include <cmath>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/finite.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Logits up to which a row needs no maximum: its weights are 2^logit, in float's range by far, and so are their sums
/// and products with values below 2^40.
inline constexpr float small_logit = 60;

/// Of a row that has what is not finite, or whose length nobody looked at.
inline constexpr float unknown_length = 0x1p60f;

/// Times scale, the length of a row with that square, or a little more: squares of elements below 2^-63 are lost. Bits
/// tell what is not finite, whatever -ffast-math assumes.
template <cpu_backend B>
CASCADA_INLINE float length_of(float square, float scale = 1) noexcept {
  if (!detail::is_finite(square)) return unknown_length;
  return (1.01f * std::sqrt(square) + 0x1p-56f) * scale;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
