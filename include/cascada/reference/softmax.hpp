#pragma once
// What a query gives to what it attends to: logits, their softmax, and rows for two sets of keys as one.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/reference/groups.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// scale q . k + log(count) + min(4, correction); with a cap, cap tanh(scale q . k / cap) and so on, where the
/// correction shrinks by the square of the cap's derivative.
template <class Real>
Real logit(const Real* query, const source<Real>& from, Real scale, index_t dim, std::optional<Real> cap = {}) {
  Real dot = 0;
  for (index_t c = 0; c < dim; ++c) dot += query[c] * from.key[c];
  Real       correction = 0;
  const auto groups     = from.variance ? static_cast<index_t>(from.variance->size()) : 0;
  for (index_t g = 0; g < groups; ++g) {
    Real square = 0;
    for (index_t c = group_edge(g, dim, groups); c < group_edge(g + 1, dim, groups); ++c) square += query[c] * query[c];
    correction += scale * scale * square * (*from.variance)[static_cast<std::size_t>(g)] / 2;
  }
  Real exact = scale * dot;
  if (cap) {
    constexpr Real largest = std::numeric_limits<Real>::max();
    const Real     part = std::tanh(exact / *cap), steep = 1 - part * part;
    exact      = *cap * part;
    correction = (correction < largest ? correction : largest) * steep * steep;  // at infinity, nothing
  }
  return exact + std::log(from.count) + std::min(Real(largest_correction), correction);
}

/// The largest logit, and the sum of exp(logit - that).
template <class Real>
struct top_with_sum {
  Real top, sum;
};

/// Of nothing, or if all of them are -infinity, that and 0.
template <class Real>
top_with_sum<Real> top_and_sum(const std::vector<Real>& logits) {
  constexpr Real lowest = -std::numeric_limits<Real>::infinity();
  Real           top = lowest, sum = 0;
  if (std::all_of(logits.begin(), logits.end(), [](Real x) { return x == lowest; })) return {top, sum};
  for (const Real x : logits) top = std::max(top, x);
  for (const Real x : logits) sum += std::exp(x - top);
  return {top, sum};
}

/// -infinity of nothing, or if all of them are.
template <class Real>
Real log_sum_exp(const std::vector<Real>& logits) {
  const auto [top, sum] = top_and_sum(logits);
  return sum == 0 ? top : top + std::log(sum);
}

/// The weights; zeros if all logits are -infinity. They are not made of log_sum_exp: where logits are so large that it
/// does not tell one from two of them, they would not add up to 1.
template <class Real>
std::vector<Real> softmax(const std::vector<Real>& logits) {
  const auto [top, sum] = top_and_sum(logits);
  std::vector<Real> weights(logits.size(), Real(0));
  for (std::size_t i = 0; i < logits.size() && sum != 0; ++i) weights[i] = std::exp(logits[i] - top) / sum;
  return weights;
}

/// Rows [rows, dim] for two sets of keys as those for both: weighed by exp of their log-sum-exps [rows].
template <class Real>
void merge(const std::vector<Real>& first, const std::vector<Real>& first_lse, const std::vector<Real>& second,
           const std::vector<Real>& second_lse, index_t dim, std::vector<Real>& out, std::vector<Real>& lse) {
  for (std::size_t row = 0; row < first_lse.size(); ++row) {
    const std::vector<Real> both   = {first_lse[row], second_lse[row]};
    const auto              shares = softmax(both);
    for (std::size_t i = row * static_cast<std::size_t>(dim); i < (row + 1) * static_cast<std::size_t>(dim); ++i)
      out[i] = shares[0] * first[i] + shares[1] * second[i];
    lse[row] = log_sum_exp(both);
  }
}

}  // namespace cascada::inline CASCADA_ABI::reference
