#pragma once
// The result of a call, as the Gram operations are read off it.

#include "cascada/backend.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_counts.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// The result of a selection, or of a cascade's step, walked in token order, as scan_of and count_token ask for it.
template <cpu_backend B>
struct selection_result {
  const representatives& now;
  const index_t*         old_reps;               // [T], or null: a selection
  index_t*               positions;              // [T] position in R of each representative
  index_t*               additions;              // [T] by position in R: additions up to and including it
  index_t                passed = 0, added = 0;  // representatives, additions

  CASCADA_INLINE index_t rep(index_t i) const noexcept { return now.rep.data()[i]; }
  CASCADA_INLINE index_t old_rep(index_t i) const noexcept { return old_reps[i]; }
  CASCADA_INLINE index_t position(index_t j) const noexcept { return positions[j]; }
  CASCADA_INLINE detail::scan_length before(index_t) const noexcept { return {passed, added}; }
  CASCADA_INLINE detail::scan_length up_to(index_t j) const noexcept {
    return {positions[j] + 1, additions[positions[j]]};
  }

  /// The walk goes on behind token i.
  CASCADA_INLINE void pass(index_t i, bool addition) noexcept {
    if (rep(i) != i) return;
    added += addition;
    positions[i]        = passed;
    additions[passed++] = added;
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
