#pragma once
// Element types of rows: float, bfloat16 and float16. Arithmetic is always float.

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

/// The upper half of a float: 1 sign, 8 exponent and 7 fraction bits. Storage only; convert to compute.
struct bfloat16 {
  std::uint16_t bits = 0;

  friend bool operator==(bfloat16, bfloat16) = default;
};

/// IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits. Storage only; convert to compute.
struct float16 {
  std::uint16_t bits = 0;

  friend bool operator==(float16, float16) = default;
};

/// What rows may be made of.
template <class Scalar>
concept row_scalar = std::same_as<Scalar, float> || std::same_as<Scalar, bfloat16> || std::same_as<Scalar, float16>;

/// What results of rows of `Scalar` may be stored as.
template <class Out, class Scalar>
concept result_of = row_scalar<Out> && (std::same_as<Out, Scalar> || std::same_as<Out, float>);

/// As it is, for kernels that take rows of any type.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr float to_float(float value) noexcept { return value; }

/// Exact: every bfloat16 is a float.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr float to_float(bfloat16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// Exact: every float16 is a float. A NaN keeps its sign and its bits and becomes quiet, as conversion instructions
/// make it.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr float to_float(float16 value) noexcept {
#ifdef __AMDGCN__
  return static_cast<float>(std::bit_cast<_Float16>(value.bits));
#else
  const std::uint32_t sign = (value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
  if (magnitude < 0x0400u) {  // subnormal: a multiple of 2^-24
    const float size = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(size));
  }
  const std::uint32_t exponent = magnitude < 0x7c00u ? 0x3800'0000u : 0x7000'0000u;  // infinity stays, and NaN
  const std::uint32_t quiet    = magnitude > 0x7c00u ? 0x0040'0000u : 0u;
  return std::bit_cast<float>(sign | quiet | ((magnitude << 13) + exponent));
#endif
}

namespace detail {

/// Round to nearest, ties to even; beyond the largest float16 to infinity. A NaN keeps its sign and becomes quiet.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr float16 to_float16(float value) noexcept {
#ifdef __AMDGCN__
  return {std::bit_cast<std::uint16_t>(static_cast<_Float16>(value))};
#else
  const auto          bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fff'ffffu;
  std::uint32_t       half = 0;
  if (magnitude > 0x7f80'0000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477f'f000u) {
    half = 0x7c00u;
  } else if (magnitude < 0x3880'0000u) {  // subnormal: the sum's last bit is worth 2^-24, so the addition rounds
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f00'0000u;
  } else {
    half = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x3800'0000u) >> 13;
  }
  return {static_cast<std::uint16_t>(sign | half)};
#endif
}

}  // namespace detail

/// Rounds to nearest, ties to even. A NaN keeps its sign and becomes quiet.
template <row_scalar Scalar>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr Scalar from_float(float value) noexcept {
  if constexpr (std::same_as<Scalar, float>) {
    return value;
  } else if constexpr (std::same_as<Scalar, float16>) {
    return detail::to_float16(value);
  } else {
    // Round to nearest, ties to even. A NaN keeps its sign and becomes quiet: rounding it could give infinity.
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fff'ffffu) > 0x7f80'0000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
}

}  // namespace cascada::inline CASCADA_ABI
