#pragma once
// Comparisons that NaN and infinity do not pass, by bits: -ffast-math takes NaN for any number, and no number for
// infinite.

#include <bit>
#include <cstdint>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// False for NaN and infinity.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr bool is_finite(float value) noexcept {
  return (std::bit_cast<std::uint32_t>(value) & 0x7f80'0000u) != 0x7f80'0000u;
}

/// 0 < value <= most.
CASCADA_INLINE constexpr bool positive_up_to(float value, float most) noexcept {
  return std::bit_cast<std::uint32_t>(value) - 1 < std::bit_cast<std::uint32_t>(most);
}

/// 0 <= value <= most; not for -0.
CASCADA_INLINE constexpr bool from_zero_to(float value, float most) noexcept {
  return std::bit_cast<std::uint32_t>(value) <= std::bit_cast<std::uint32_t>(most);
}
CASCADA_INLINE constexpr bool from_zero_to(double value, double most) noexcept {
  return std::bit_cast<std::uint64_t>(value) <= std::bit_cast<std::uint64_t>(most);
}

}  // namespace cascada::inline CASCADA_ABI::detail
