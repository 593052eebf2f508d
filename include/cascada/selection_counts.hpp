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

/// A token of a cascade step that was a representative: it is compared with those before it.
template <class Report>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr void count_former(bool remains, const scan_length& scan, Report& report) {
  report.gram.validation += scan.representatives;
  report.removals += !remains;
}

/// A token of a cascade step that was none, and its candidate, the representative of the one it had.
struct inheriting_token {
  bool inherits;       // the candidate stands for it
  bool is_addition;    // it stands for itself
  bool new_candidate;  // the candidate is an addition
  bool met_candidate;  // the candidate lies within its scan
};

/// `cross`: in paper mode every pair with a former representative is known.
template <class Report>
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr void count_inheriting(const inheriting_token& token,
                                                                   const scan_length& scan, bool cross,
                                                                   Report& report) {
  report.gram.inherited += !cross || token.new_candidate;
  report.additions += token.is_addition;
  if (token.inherits) {
    ++report.inherited;
    return;
  }
  // The pair with the candidate is known by then.
  ++report.orphans;
  report.gram.orphans += cross ? scan.additions - (token.new_candidate && token.met_candidate)
                               : scan.representatives - token.met_candidate;
}

/// What follows from a step's counts, for `former` representatives in the layer before.
CASCADA_INLINE void count_step(index_t former, bool cross, selection_report& report) {
  if (cross) report.gram.cross_gram = std::int64_t{report.tokens - former} * former;
  const index_t together = report.representatives + report.removals;
  report.jaccard         = together == 0 ? 1.0 : static_cast<double>(former - report.removals) / together;
}

}  // namespace cascada::inline CASCADA_ABI::detail
