#pragma once
// Numbers compared by their bits, whatever -ffast-math makes of NaN.

#include <bit>
#include <cstdint>

namespace tests {

inline bool is_nan_by_bits(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7fff'ffffu) > 0x7f80'0000u; }

/// Equal, or both NaN.
inline bool alike(float a, float b) {
  return is_nan_by_bits(a) ? is_nan_by_bits(b) : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

}  // namespace tests
