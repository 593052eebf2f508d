#pragma once
// Evidence that the layer before left.
//
// The definition asks only whether some earlier representative covers a token, so any evidence of cover will do. The
// candidate of a token is the representative of the one it had: rep(old_rep(i)). That is its old representative where
// it still is one, and else the one that took its place.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/pass.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Checks each token of the stretch that was not a representative against its candidate. One whose old representative
/// lies in the stretch itself is checked against that one, as if it stayed; whether it does is seen later.
template <row_scalar Scalar, cpu_backend B>
void check_inherited(selection_pass<Scalar, B>& pass) {
  constexpr index_t group = 16;
  index_t           tokens[stretch_tokens];
  index_t           count = 0;
  for (index_t i = pass.begin; i < pass.end; ++i)
    if (pass.old_rep[i] != i) tokens[count++] = i;
  parallel_for<B>(pass.where.executor, (count + group - 1) / group, [&](index_t g) {
    for (index_t t = g * group; t < std::min(count, (g + 1) * group); ++t) {
      const index_t i = tokens[t], old = pass.old_rep[i];
      const bool    waits     = old >= pass.begin;
      const index_t candidate = waits ? old : pass.now.rep[old];
      pair_value<B> value;
      const bool    covered = pair_covers<B>(pass.rows, i, candidate, value);
      if (covered && !waits) pass.now.rep[i] = candidate;
      pass.evidence[i - pass.begin] = waits     ? (covered ? token_evidence::waits_covered : token_evidence::waits)
                                      : covered ? token_evidence::covered
                                                : token_evidence::none;
    }
  });
  pass.pairs.evaluated += count;
}

/// Settles a waiting token whose old representative is settled, if the candidate covers it.
template <row_scalar Scalar, cpu_backend B>
bool inherit(selection_pass<Scalar, B>& pass, index_t i) noexcept {
  token_evidence& evidence = pass.evidence[i - pass.begin];
  const index_t   old = pass.old_rep[i], candidate = pass.now.rep[old];
  bool            covered = evidence == token_evidence::waits_covered;
  if (candidate != old) {
    pair_value<B> value;
    covered = pair_covers<B>(pass.rows, i, candidate, value);
    ++pass.pairs.evaluated;
  }
  if (!covered) return false;
  pass.now.rep[i] = candidate;
  evidence        = token_evidence::covered;
  return true;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
