#pragma once
// A pointer that nobody follows, for views of sizes alone: memory is asked for before there are rows.

#include "cascada/hip/base/backend.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// On a 16-byte boundary, as rows have to be.
template <gfx942_stream B, class Scalar>
CASCADA_INLINE const Scalar* aligned_nothing() noexcept {
  alignas(16) static constexpr Scalar nothing[8] = {};
  return nothing;
}

}  // namespace cascada::inline CASCADA_ABI::hip
