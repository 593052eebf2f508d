#pragma once
// Comparisons that NaN and infinity do not pass, by bits, whatever -ffast-math promises.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// Bits of a value whose origin the compiler does not see: with -ffast-math clang 19 knows those of a sum for finite.
template <class Bits, class Value>
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr Bits bits_of(Value value) noexcept {
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ && !defined(__AMDGCN__)
  if (!std::is_constant_evaluated()) asm("" : "+m"(value));
#endif
  return std::bit_cast<Bits>(value);
}

/// False for NaN and infinity.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr bool is_finite(float value) noexcept {
  return (bits_of<std::uint32_t>(value) & 0x7f80'0000u) != 0x7f80'0000u;
}

[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr bool is_minus_infinity(float value) noexcept {
  return bits_of<std::uint32_t>(value) == 0xff80'0000u;
}

/// 0 < value <= most.
CASCADA_INLINE constexpr bool positive_up_to(float value, float most) noexcept {
  return bits_of<std::uint32_t>(value) - 1 < std::bit_cast<std::uint32_t>(most);
}

/// 0 <= value <= most; not for -0.
CASCADA_INLINE constexpr bool from_zero_to(float value, float most) noexcept {
  return bits_of<std::uint32_t>(value) <= std::bit_cast<std::uint32_t>(most);
}
CASCADA_INLINE constexpr bool from_zero_to(double value, double most) noexcept {
  return bits_of<std::uint64_t>(value) <= std::bit_cast<std::uint64_t>(most);
}

}  // namespace cascada::inline CASCADA_ABI::detail
