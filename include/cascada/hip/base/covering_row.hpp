#pragma once
// A row that covers a token, and which of two such rows the token takes.

#include "cascada/hip/base/device.hpp"
#include "cascada/verdict.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// The place of a row that covers a token, in the order of rows; their canonical product, and the row's norm.
struct covering_row {
  index_t place   = -1;  // none
  float   product = 0;
  float   norm    = 1;

  CASCADA_DEVICE CASCADA_INLINE bool none() const { return place < 0; }

  /// Whether the token takes this row rather than `other`: the nearer one, and of equally near ones the earlier.
  CASCADA_DEVICE CASCADA_INLINE bool nearer_than(const covering_row& other) const {
    if (none() || other.none()) return !none();
    if (detail::nearer(product, norm, other.product, other.norm)) return true;
    return place < other.place && !detail::nearer(other.product, other.norm, product, norm);
  }

  /// The same, but the earlier one.
  CASCADA_DEVICE CASCADA_INLINE bool earlier_than(const covering_row& other) const {
    return !none() && (other.none() || place < other.place);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
