#pragma once
// Q8_0: blocks of 8-bit integers with a scale, in ggml's layout.

#include <bit>
#include <cmath>
#include <cstdint>

#include "cascada/computed_rows.hpp"
#include "cascada/config.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI {

/// Q8_0, as ggml lays it out: element c is scale times values[c], a product that no rounding changes. 34 bytes on any
/// even address. A scale of NaN makes every element NaN, an infinite one makes infinities, and NaN of zeros.
struct q8_0_block {
  static constexpr index_t elements = 32;

  float16     scale            = {};
  std::int8_t values[elements] = {};

  CASCADA_INLINE constexpr float operator[](index_t c) const noexcept {
    return to_float(scale) * static_cast<float>(values[c]);
  }
  CASCADA_INLINE constexpr void load(index_t c, index_t count, float* to) const noexcept {
    const float factor = to_float(scale);
    for (index_t i = 0; i < count; ++i) to[i] = factor * static_cast<float>(values[c + i]);
  }

  /// 32 floats, rounded as ggml does: the largest in size is 127 times the scale, ties go away from zero. Zeros where
  /// the scale would be too small for a float16; NaN where it would be too large, or a float is not finite.
  CASCADA_INLINE static q8_0_block of(const float* from) noexcept {
    q8_0_block    block;
    std::uint32_t most = 0;  // by bits, whatever -ffast-math assumes
    for (index_t i = 0; i < elements; ++i) {
      const auto size = std::bit_cast<std::uint32_t>(from[i]) & 0x7fff'ffffu;
      most            = size > most ? size : most;
    }
    const bool  finite = most < 0x7f80'0000u;
    const float unit   = finite ? std::bit_cast<float>(most) / 127.0f : 0.0f;
    block.scale        = from_float<float16>(unit);
    if (!finite || block.scale.bits == 0x7c00u) return {float16{0x7e00u}, {}};
    if (block.scale.bits == 0) return {};
    for (index_t i = 0; i < elements; ++i) block.values[i] = static_cast<std::int8_t>(std::round(from[i] * (1 / unit)));
    return block;
  }

  friend bool operator==(const q8_0_block&, const q8_0_block&) = default;
};
static_assert(sizeof(q8_0_block) == 34 && alignof(q8_0_block) == 2 && row_block<q8_0_block>);

}  // namespace cascada::inline CASCADA_ABI
