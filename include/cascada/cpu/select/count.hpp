#pragma once
// Gram operations of the scalar algorithm, read off its result.
//
// In token order, a token is compared with representatives in ascending order until one covers it. Which one that was
// (rep), and which token it inherited, therefore fix the pairs it was compared with; no kernel has to count them.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/report.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Walks the result of a selection in token order and knows how far each token's scan went.
template <cpu_backend B>
struct scan_lengths {
  const representatives& now;
  assignment             assign;
  index_t*               position;   // [T] position in R of each representative
  index_t*               additions;  // [T] by position in R: additions up to and including it
  index_t                members = 0, added = 0;

  struct length {
    index_t members;    // representatives compared with
    index_t additions;  // those of them that are additions
  };

  CASCADA_INLINE length of(index_t i) const noexcept {
    const index_t rep = now.rep.data()[i];
    if (rep == i || assign == assignment::nearest) return {members, added};
    return {position[rep] + 1, additions[position[rep]]};
  }

  CASCADA_INLINE void add(index_t i, bool addition) noexcept {
    added += addition;
    position[i]          = members;
    additions[members++] = added;
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
    report.gram.selection += scans.of(i).members;
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
    const auto [members, added] = scans.of(i);
    if (old_rep[i] == i) {
      report.gram.validation += members;
      report.removals += rep[i] != i;
    } else {
      const index_t candidate   = rep[old_rep[i]];
      const bool    new_one     = old_rep[candidate] != candidate;
      const bool    within_scan = position[candidate] < members;
      report.gram.inherited += !cross || new_one;
      if (rep[i] == candidate) {
        ++report.inherited;
      } else {
        // The pair (i, candidate) is known by now, and in paper mode every pair with a former representative is.
        ++report.orphans;
        report.gram.orphans += cross ? added - (new_one && within_scan) : members - within_scan;
      }
    }
    if (rep[i] == i) {
      report.additions += old_rep[i] != i;
      scans.add(i, old_rep[i] != i);
    }
  }
  return report;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
