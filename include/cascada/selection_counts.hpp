#pragma once
// Gram operations of the scalar algorithm, read off its result: what each settled token adds to a report.
//
// In token order, a token is compared with representatives in ascending order until one covers it. Which one that was
// (rep), and which token it inherited, therefore fix the pairs it was compared with; no kernel has to count them.

#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/report.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// How far a token's scan went.
struct scan_length {
  index_t representatives;  // compared with
  index_t additions;        // those of them that are additions
};

/// A token of a cascade step. `step` is its result: rep(i), old_rep(i), the representative that token i had, and
/// position(j), the place of representative j in R. `cross`: in paper mode every pair with a former representative is
/// known.
template <class Step, class Report>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr void count_token(const Step& step, index_t i, const scan_length& scan,
                                                              bool cross, Report& report) {
  const index_t old = step.old_rep(i), rep = step.rep(i);
  if (old == i) {  // it was one, and is compared with those before it
    report.gram.validation += scan.representatives;
    report.removals += rep != i;
    return;
  }
  const index_t candidate     = step.rep(old);
  const bool    new_candidate = step.old_rep(candidate) != candidate;             // an addition
  const bool    met_candidate = step.position(candidate) < scan.representatives;  // within its scan
  report.gram.inherited += !cross || new_candidate;
  report.additions += rep == i;
  if (rep == candidate) {
    ++report.inherited;
    return;
  }
  // The pair with the candidate is known by then.
  ++report.orphans;
  report.gram.orphans +=
      cross ? scan.additions - (new_candidate && met_candidate) : scan.representatives - met_candidate;
}

/// What follows from a step's counts, for `former` representatives in the layer before.
CASCADA_INLINE void count_step(index_t former, bool cross, selection_report& report) {
  if (cross) report.gram.cross_gram = std::int64_t{report.tokens - former} * former;
  const index_t together = report.representatives + report.removals;
  report.jaccard         = together == 0 ? 1.0 : static_cast<double>(former - report.removals) / together;
}

}  // namespace cascada::inline CASCADA_ABI::detail
