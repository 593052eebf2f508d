#pragma once
// Evidence that the layer before left.
//
// The definition asks only whether some earlier representative covers a token, so any evidence of cover will do. The
// candidate of a token is the representative of the one it had: rep(old_rep(i)). That is its old representative where
// it still is one, and else the one that took its place.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/stretch.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Checks each token of the stretch that was not a representative against its candidate. One whose old representative
/// lies in the stretch itself is checked against that one, as if it stayed; whether it does is seen later.
template <row_scalar Scalar, cpu_backend B>
void check_inherited(selection_call<Scalar, B>& call, selection_stretch<B>& stretch) {
  constexpr index_t group = 16;  // tokens of a task, so that handing it out costs little beside it
  index_t           asked[stretch_tokens];
  index_t           count = 0;
  for (index_t i = stretch.begin; i < stretch.end; ++i)
    if (call.old_rep[i] != i) asked[count++] = i;
  parallel_for<B>(call.where.executor, (count + group - 1) / group, [&](index_t g) {
    for (index_t t = g * group; t < std::min(count, (g + 1) * group); ++t) {
      const index_t i = asked[t], old = call.old_rep[i];
      const bool    waits     = old >= stretch.begin;
      const index_t candidate = waits ? old : call.now().rep[old];
      pair_value<B> value;
      const bool    covered = pair_covers<B>(call.rows, i, candidate, value);
      if (covered && !waits) call.represent(i, candidate);
      stretch.evidence[stretch.local(i)] =
          waits     ? (covered ? inherited_evidence::waits_covered : inherited_evidence::waits)
          : covered ? inherited_evidence::covered
                    : inherited_evidence::none;
    }
  });
  call.pairs.evaluated += count;
}

/// Settles a waiting token whose old representative is settled, if the candidate covers it.
template <row_scalar Scalar, cpu_backend B>
bool inherit(selection_call<Scalar, B>& call, index_t i, inherited_evidence& evidence) noexcept {
  const index_t old = call.old_rep[i], candidate = call.now().rep[old];
  bool          covered = evidence == inherited_evidence::waits_covered;
  if (candidate != old) {
    pair_value<B> value;
    covered = pair_covers<B>(call.rows, i, candidate, value);
    ++call.pairs.evaluated;
  }
  if (!covered) return false;
  call.represent(i, candidate);
  evidence = inherited_evidence::covered;
  return true;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
