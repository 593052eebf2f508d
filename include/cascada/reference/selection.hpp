#pragma once
// Selection and cascade as the definition reads: one token after the other, one pair after the other.
//
// Everything here counts what it does. The verdict on a pair is written anew, from the definition, and shares no code
// with the kernels.

#include <cmath>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "cascada/owned_representatives.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// Representatives, and what finding them cost.
struct selection : owned_representatives {
  selection_report report;
};

/// Inner product of two rows: s = fma(a[k], b[k], s) in float, k ascending.
template <row_scalar Scalar>
float inner_product(matrix_view<const Scalar> x, index_t a, index_t b) {
  float s = 0;
  for (index_t k = 0; k < x.cols; ++k) s = std::fma(to_float(x.row(a)[k]), to_float(x.row(b)[k]), s);
  return s;
}

/// The largest float n with n * n <= |x_i|^2, or 0 for a row that counts as zero. So does one with NaN, or whose square
/// overflows: keys may be such.
template <row_scalar Scalar>
float norm(matrix_view<const Scalar> x, index_t i) {
  const float c = inner_product(x, i, i);
  if (!(c >= std::ldexp(1.0f, -60)) || std::isinf(c)) return 0;
  float n = std::sqrt(c);
  if (std::fma(n, n, -c) > 0) n = std::nextafter(n, 0.0f);
  return n;
}

/// Whether G_ij >= tau, for j before i. A zero row has cosine 0 with every row.
template <row_scalar Scalar>
bool covered(matrix_view<const Scalar> x, float tau, index_t i, index_t j) {
  const float n_i = norm(x, i), n_j = norm(x, j);
  if (n_i == 0 || n_j == 0) return false;
  const float s = inner_product(x, i, j), bound = tau * n_i;
  return s > 0 && s >= bound * n_j;
}

/// Among covering representatives of a token: the nearest has the largest s / n_j; ties go to the lower index.
template <row_scalar Scalar>
bool nearer(matrix_view<const Scalar> x, index_t i, index_t j, index_t best) {
  const auto s_j = static_cast<double>(inner_product(x, i, j)), s_best = static_cast<double>(inner_product(x, i, best));
  return s_j * static_cast<double>(norm(x, best)) > s_best * static_cast<double>(norm(x, j));
}

/// The walk over the tokens that all selections share.
template <row_scalar Scalar>
class walk {
 public:
  walk(matrix_view<const Scalar> x, const selection_options& options) : x_(x), options_(options) {}

  /// Compares token i with the representatives so far, in order, and makes it one unless it is covered. Adds the pairs
  /// asked for to `operations`.
  void compare(index_t i, std::int64_t& operations) {
    std::optional<index_t> best;
    for (const index_t j : result.indices) {
      const bool covers = ask(i, j, operations);
      if (covers && (!best || nearer(x_, i, j, *best))) best = j;
      if (covers && options_.assign == assignment::lowest_index) break;
    }
    settle(i, best.value_or(i));
  }

  /// The verdict on a pair. A pair costs one Gram operation, once.
  bool ask(index_t i, index_t j, std::int64_t& operations) {
    operations += known_.insert({i, j}).second;
    return covered(x_, options_.threshold, i, j);
  }

  void settle(index_t i, index_t rep) {
    result.rep.push_back(rep);
    if (rep == i) result.indices.push_back(i);
  }

  selection finish() {
    for (const index_t j : result.indices) {
      index_t members = 0;
      for (const index_t rep : result.rep) members += rep == j;
      result.counts.push_back(members);
    }
    result.report.tokens          = x_.rows;
    result.report.representatives = static_cast<index_t>(result.indices.size());
    return std::move(result);
  }

  selection result;

 private:
  matrix_view<const Scalar>             x_;
  selection_options                     options_;
  std::set<std::pair<index_t, index_t>> known_;
};

/// Full selection: token i joins R unless an earlier member covers it.
template <row_scalar Scalar>
selection select(matrix_view<const Scalar> x, const selection_options& options) {
  walk<Scalar> walk(x, options);
  for (index_t i = 0; i < x.rows; ++i) walk.compare(i, walk.result.report.gram.selection);
  return walk.finish();
}

/// Cascade step from the representatives of the layer before, exact or in paper mode.
template <row_scalar Scalar>
selection cascade(matrix_view<const Scalar> x, const representatives& before, const selection_options& options) {
  walk<Scalar>      walk(x, options);
  selection_report& report = walk.result.report;
  const auto        was    = [&](index_t i) { return before.rep[static_cast<std::size_t>(i)] == i; };

  if (options.validate == validation::cross_gram)
    for (index_t i = 0; i < x.rows; ++i)
      for (const index_t j : before.indices)
        if (!was(i)) walk.ask(i, j, report.gram.cross_gram);

  for (index_t i = 0; i < x.rows; ++i) {
    if (was(i)) {
      walk.compare(i, report.gram.validation);
      report.removals += walk.result.rep.back() != i;
      continue;
    }
    // What stands now for the token that stood for i: that token itself, if it still is a representative.
    const index_t inherited = walk.result.rep[static_cast<std::size_t>(before.rep[static_cast<std::size_t>(i)])];
    if (walk.ask(i, inherited, report.gram.inherited)) {
      walk.settle(i, inherited);
      ++report.inherited;
    } else {
      walk.compare(i, report.gram.orphans);
      ++report.orphans;
      report.additions += walk.result.rep.back() == i;
    }
  }
  report.jaccard = jaccard(before, walk.result.view());
  return walk.finish();
}

}  // namespace cascada::inline CASCADA_ABI::reference
