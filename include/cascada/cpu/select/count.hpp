#pragma once
// Gram operations of the scalar algorithm, read off its result (selection_counts.hpp).

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/report.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_counts.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Walks the result of a selection in token order and knows how far each token's scan went.
template <cpu_backend B>
struct scan_lengths {
  const representatives& now;
  assignment             assign;
  index_t*               position;   // [T] position in R of each representative
  index_t*               additions;  // [T] by position in R: additions up to and including it
  index_t                known = 0, added = 0;

  CASCADA_INLINE detail::scan_length of(index_t i) const noexcept {
    const index_t rep = now.rep.data()[i];
    if (rep == i || assign == assignment::nearest) return {known, added};
    return {position[rep] + 1, additions[position[rep]]};
  }

  CASCADA_INLINE void add(index_t i, bool addition) noexcept {
    added += addition;
    position[i]        = known;
    additions[known++] = added;
  }
};

/// A cascade step's, as count_token asks for it.
template <cpu_backend B>
struct step_result {
  const index_t* reps;
  const index_t* old_reps;
  const index_t* positions;

  CASCADA_INLINE index_t rep(index_t i) const noexcept { return reps[i]; }
  CASCADA_INLINE index_t old_rep(index_t i) const noexcept { return old_reps[i]; }
  CASCADA_INLINE index_t position(index_t i) const noexcept { return positions[i]; }
};

/// Counts of a full selection, of the tokens behind the first `known`: those are representatives of earlier calls.
template <cpu_backend B>
selection_report count_selection(const representatives& now, assignment assign, index_t* position, index_t* additions,
                                 index_t known = 0) noexcept {
  selection_report report{.tokens = now.tokens(), .representatives = now.count()};
  scan_lengths<B>  scans{now, assign, position, additions};
  for (index_t i = 0; i < known; ++i) scans.add(i, true);
  for (index_t i = known; i < now.tokens(); ++i) {
    report.gram.selection += scans.of(i).representatives;
    if (now.rep.data()[i] == i) scans.add(i, true);
  }
  return report;
}

/// Counts of a cascade step, given the representatives that tokens inherited; of the tokens behind the first `known`.
/// `cross`: in paper mode every pair with a former representative is known.
template <cpu_backend B>
selection_report count_cascade(const index_t* old_rep, bool cross, const representatives& now, assignment assign,
                               index_t* position, index_t* additions, index_t known = 0) noexcept {
  selection_report report{.tokens = now.tokens(), .representatives = now.count()};
  scan_lengths<B>  scans{now, assign, position, additions};
  step_result<B>   step{now.rep.data(), old_rep, position};
  for (index_t i = 0; i < known; ++i) scans.add(i, false);
  for (index_t i = known; i < now.tokens(); ++i) {
    detail::count_token(step, i, scans.of(i), cross, report);
    if (step.rep(i) == i) scans.add(i, step.old_rep(i) != i);
  }
  return report;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
