#pragma once
// Ascending lists.

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// The first of places [begin, end) of an ascending list, of numbers or of what compares with one, that is not below
/// `least`; `end` if there is none. O(log n).
template <class Item>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t first_from(const Item* list, index_t begin, index_t end,
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
