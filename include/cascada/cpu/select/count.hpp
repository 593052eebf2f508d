#pragma once
// Gram operations of the scalar algorithm, read off its result (selection_counts.hpp).

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_counts.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"

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

/// Counts of a call, of the tokens behind the first `known`: those are representatives of earlier calls. `old_reps`:
/// what tokens inherited, or null in a full selection. `cross`: in paper mode every pair with a former representative
/// is known.
template <cpu_backend B>
selection_report count_call(const representatives& now, const index_t* old_reps, assignment assign, bool cross,
                            index_t* position, index_t* additions, index_t known = 0) noexcept {
  selection_report    report{.tokens = now.tokens(), .representatives = now.count()};
  selection_result<B> result{now, old_reps, position, additions};
  for (index_t i = 0; i < now.tokens(); ++i) {
    if (i >= known) detail::count_token(result, i, assign, old_reps != nullptr, cross, report);
    result.pass(i, !old_reps || old_reps[i] != i);
  }
  return report;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
