#pragma once
// Sizes that attention's kernels agree on: of tiles, panels, blocks of keys, rows of scores and weights.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows per tile, and vectors of accumulators per row: they fill the register file and leave room for the operands.
struct attention_shape {
  index_t rows    = 6;
  index_t vectors = 2;
};

template <cpu_backend B>
inline constexpr attention_shape attention_tuning =
    contains(B::instructions, isa::avx512f) ? attention_shape{6, 4} : attention_shape{};

/// Keys per panel; a multiple of the columns of every tile of sums.
template <cpu_backend B>
inline constexpr index_t panel_keys = 64;

/// Keys that a row takes into its softmax at once: as many as leave its scores in the L1 cache, so that the old values
/// are rescaled and read seldom.
template <cpu_backend B, class E = float>
inline constexpr index_t block_keys = 512;

/// Rows whose scores are under way at a time, and lanes between them: of pairs, off the multiples of a page at which
/// stores and loads look alike.
template <cpu_backend B, class E>
inline constexpr index_t score_rows_at_once = std::same_as<E, float> ? attention_tuning<B>.rows : 32;
template <cpu_backend B, class E>
inline constexpr index_t score_stride = block_keys<B, E> + (std::same_as<E, float> ? 0 : vec<B>::width);

/// Lanes between rows of weights: pairs lie beside the scores, floats take their place.
template <cpu_backend B, class E>
inline constexpr index_t weight_stride =
    std::same_as<E, float> ? score_stride<B, E> : block_keys<B, E> / 2 + vec<B>::width;

/// Where key `first`, the first of a vector, begins in panels [lanes, panel_keys].
template <cpu_backend B>
CASCADA_INLINE std::int64_t panel_offset(index_t first, index_t lanes) noexcept {
  return std::int64_t{first / panel_keys<B>} * panel_keys<B> * lanes + first % panel_keys<B>;
}

template <cpu_backend B>
CASCADA_INLINE std::int64_t whole_panels(index_t count) noexcept {
  return (std::int64_t{count} + panel_keys<B> - 1) / panel_keys<B> * panel_keys<B>;
}

template <cpu_backend B>
CASCADA_INLINE index_t whole_vectors(index_t count) noexcept {
  return (count + vec<B>::width - 1) / vec<B>::width * vec<B>::width;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
