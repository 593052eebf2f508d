#pragma once
// How much room what grows gets.

#include <algorithm>
#include <cstdint>

#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Room for `needs` tokens: what there is, if that is enough; else for twice as many as there is room for, at least.
CASCADA_INLINE constexpr index_t doubled_room(index_t has, std::int64_t needs) noexcept {
  const std::int64_t twice = std::min(2 * std::int64_t{has}, std::int64_t{detail::largest_size});
  return needs <= has ? has : static_cast<index_t>(std::max(needs, twice));
}

}  // namespace cascada::inline CASCADA_ABI::hip
