#pragma once
// Gram operations of the scalar algorithm, read off its result (selection_counts.hpp).

#include "cascada/backend.hpp"
#include "cascada/cpu/select/result.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_counts.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

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
