#pragma once
// The result of a call, and the Gram operations that are read off it.

#include "cascada/hip/select/call.hpp"
#include "cascada/selection_counts.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// As scan_of and count_token (selection_counts.hpp) ask for it.
template <class Call>
struct selection_result {
  const Call& call;

  CASCADA_DEVICE CASCADA_INLINE index_t rep(index_t i) const { return call.now.rep[i]; }
  CASCADA_DEVICE CASCADA_INLINE index_t old_rep(index_t i) const { return call.old_rep(i); }
  CASCADA_DEVICE CASCADA_INLINE index_t position(index_t j) const { return call.memory.prefix[j].representatives; }
  CASCADA_DEVICE CASCADA_INLINE detail::scan_length before(index_t i) const {
    return {call.memory.prefix[i].representatives, call.memory.prefix[i].added};
  }
  CASCADA_DEVICE CASCADA_INLINE detail::scan_length up_to(index_t j) const {
    const detail::scan_length earlier = before(j);
    return {earlier.representatives + 1, earlier.additions + (old_rep(j) != j)};
  }

  /// Adds what token i has cost.
  CASCADA_DEVICE CASCADA_INLINE void count(index_t i, bool inherits, selection_counters& sums) const {
    detail::count_token(*this, i, call.assign, inherits, call.memory.cross != nullptr, sums);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
