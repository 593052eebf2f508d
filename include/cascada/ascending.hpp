#pragma once
// Ascending lists.

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// The first of places [begin, end) of an ascending list whose number is not below `least`; `end` if there is none.
/// O(log n).
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t first_from(const index_t* list, index_t begin, index_t end,
                                                                index_t least) noexcept {
  while (begin < end) {
    const index_t middle = begin + (end - begin) / 2;
    if (list[middle] < least)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}

}  // namespace cascada::inline CASCADA_ABI::detail
