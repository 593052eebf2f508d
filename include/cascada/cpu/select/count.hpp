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
  const index_t*   rep = now.rep.data();
  scan_lengths<B>  scans{now, assign, position, additions};
  for (index_t i = 0; i < known; ++i) scans.add(i, false);
  for (index_t i = known; i < now.tokens(); ++i) {
    const detail::scan_length scan = scans.of(i);
    if (old_rep[i] == i) {
      detail::count_former(rep[i] == i, scan, report);
    } else {
      const index_t candidate = rep[old_rep[i]];
      detail::count_inheriting({.inherits      = rep[i] == candidate,
                                .is_addition   = rep[i] == i,
                                .new_candidate = old_rep[candidate] != candidate,
                                .met_candidate = position[candidate] < scan.representatives},
                               scan, cross, report);
    }
    if (rep[i] == i) scans.add(i, old_rep[i] != i);
  }
  return report;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
