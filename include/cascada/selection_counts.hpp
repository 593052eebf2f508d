#pragma once
// Gram operations of the scalar algorithm, read off its result: what each settled token adds to a report.
//
// In token order, a token is compared with representatives in ascending order until one covers it. Which one that was
// (rep), and which token it inherited, therefore fix the pairs it was compared with; no kernel has to count them.

#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// How far a token's scan went.
struct scan_length {
  index_t representatives;  // compared with
  index_t additions;        // those of them that are additions
};

/// Of token i: to the representative that covers it, or, where there is none or the nearest one is wanted, through all
/// before it. `result` knows rep(i), before(i), what lies before token i, and up_to(j), what lies up to and including
/// representative j.
template <class Result>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr scan_length scan_of(const Result& result, index_t i, assignment assign) {
  const index_t rep = result.rep(i);
  return rep == i || assign == assignment::nearest ? result.before(i) : result.up_to(rep);
}

/// A token of a full selection, or of a cascade's step, which `inherits`. The result of a step knows besides
/// old_rep(i), the representative that token i had, and position(j) of representative j in R. `cross`: in paper mode
/// every pair with a former representative is known.
template <class Result, class Report>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr void count_token(const Result& result, index_t i, assignment assign,
                                                              bool inherits, bool cross, Report& report) {
  const scan_length scan = scan_of(result, i, assign);
  if (!inherits) {
    report.gram.selection += scan.representatives;
    return;
  }
  const index_t old = result.old_rep(i), rep = result.rep(i);
  if (old == i) {  // it was one, and is compared with those before it
    report.gram.validation += scan.representatives;
    report.removals += rep != i;
    return;
  }
  const index_t candidate     = result.rep(old);
  const bool    new_candidate = result.old_rep(candidate) != candidate;             // an addition
  const bool    met_candidate = result.position(candidate) < scan.representatives;  // within its scan
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
