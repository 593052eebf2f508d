#pragma once
// Rows on 16-byte boundaries, as kernels load them.

#include <cstdint>
#include <initializer_list>

#include "cascada/hip/base/backend.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Of elements of two bytes, whose rows lie `strides` elements apart.
template <class Scalar>
  requires(sizeof(Scalar) == 2)
[[nodiscard]] CASCADA_INLINE bool rows_are_aligned(const Scalar*                       data,
                                                   std::initializer_list<std::int64_t> strides) noexcept {
  if (reinterpret_cast<std::uintptr_t>(data) % 16 != 0) return false;
  for (const std::int64_t stride : strides)
    if (stride % 8 != 0) return false;
  return true;
}

/// A pointer that nobody follows, for views of sizes alone: memory is asked for before there are rows.
template <gfx942_stream B, class Scalar>
CASCADA_INLINE const Scalar* aligned_nothing() noexcept {
  alignas(16) static constexpr Scalar nothing[8] = {};
  return nothing;
}

}  // namespace cascada::inline CASCADA_ABI::hip
