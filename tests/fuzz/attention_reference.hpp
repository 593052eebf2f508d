#pragma once
// What the reference says of a call of attention, as far as rounding leaves it decided.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "attention_call.hpp"
#include "cascada/reference.hpp"

namespace fuzz {

/// Sequence [begin, end) of the call as the reference reads it.
template <class Scalar>
cascada::reference::attention_input<double> sequence_of(const problem<Scalar>& rows, index_t begin, index_t end) {
  auto       all = rows.template input<double>();
  const auto cut = [&](std::vector<double>& of, index_t width) {
    of.assign(of.begin() + std::ptrdiff_t{begin} * width, of.begin() + std::ptrdiff_t{end} * width);
  };
  cut(all.q, all.heads * all.key_dim);
  cut(all.k, all.kv_heads * all.key_dim);
  cut(all.v, all.kv_heads * all.value_dim);
  all.tokens = end - begin;
  return all;
}

/// The length of the longest row.
template <class Scalar>
double longest(const head_rows<Scalar>& rows) {
  double     length = 0;
  const auto view   = rows.view();
  for (index_t t = 0; t < view.tokens; ++t)
    for (index_t h = 0; h < view.heads; ++h) {
      double square = 0;
      for (index_t c = 0; c < view.dim; ++c) square += std::pow(double{cascada::to_float(view.row(t, h)[c])}, 2);
      length = std::max(length, std::sqrt(square));
    }
  return length;
}

/// How far a kernel may lie from the reference.
struct tolerance {
  double logits;   // an upper bound on their size, but for counts and corrections
  double largest;  // up to which logits are compared
  double margin;   // of a leaf's share: closer to open_above than this, it may open or not
  double slack;    // of results
};

/// `Operand`: what products multiply.
template <class Operand, class Out, class Scalar>
tolerance tolerance_of(const call<Scalar>& of) {
  constexpr bool   pairs  = !std::same_as<Operand, float>;
  constexpr double digits = pairs ? 0x1p-8 : 0x1p-21;
  constexpr double result = std::same_as<Out, cascada::bfloat16>  ? 0x1p-8
                            : std::same_as<Out, cascada::float16> ? 0x1p-11
                                                                  : 0;
  const double     scale =
      of.options.scale ? double{*of.options.scale} : 1 / std::sqrt(static_cast<double>(of.rows.size.key_dim));
  const double logits = scale * longest(of.rows.q) * longest(of.rows.k), margin = digits * (4 + 2 * logits);
  double       value = 0;
  for (const double x : of.rows.v.template packed<double>()) value = std::max(value, std::fabs(x));
  return {logits, pairs ? 8.0 : 40.0, margin, value * (4 * margin + result)};
}

/// Compares the rows of a sequence of which no leaf may open or not, and says whether these are all.
template <class Exact>
bool compare_rows(const Exact& exact, const float* results, std::size_t width, const tolerance& within) {
  bool all = true;
  for (std::size_t i = 0; i < exact.above.size(); ++i) {
    const bool decided = tests::margin(exact, i) >= within.margin;
    all &= decided;
    for (std::size_t c = i * width; decided && c < (i + 1) * width; ++c)
      require(std::fabs(double{results[c]} - exact.out[c]) <= within.slack);
  }
  return all;
}

/// Results are the reference's, and, where rounding opens no leaf, so are the counts.
template <class Operand, class Out, class Scalar>
void compare_with_reference(const call<Scalar>& of, const std::vector<float>& results,
                            const cascada::attention_report& report) {
  const tolerance within = tolerance_of<Operand, Out>(of);
  if (within.logits > within.largest) return;
  attention_options options = of.options;
  if (options.moments) options.moments = std::min(*options.moments, of.rows.size.key_dim);
  const auto        edge         = of.edges();
  const std::size_t per_sequence = of.selects() ? of.selections.size() / (edge.size() - 1) : 0;
  const std::size_t width        = tests::row_of(of.rows.size, 1) / place(of.rows.size.kv_heads);  // of a KV head
  bool              decided      = true;
  std::int64_t      near_keys = 0, leaves = 0, opened = 0;
  for (std::size_t s = 0; s + 1 < edge.size(); ++s) {
    std::vector<cascada::reference::assignment_of_tokens> reps;
    for (std::size_t i = 0; i < per_sequence; ++i) reps.push_back(of.selections[s * per_sequence + i].rep);
    const auto exact = cascada::reference::attention(sequence_of(of.rows, edge[s], edge[s + 1]), reps, options);
    decided &= compare_rows(exact, results.data() + tests::row_of(of.rows.size, edge[s]), width, within);
    near_keys += std::accumulate(exact.near_keys.begin(), exact.near_keys.end(), std::int64_t{0});
    leaves += std::accumulate(exact.leaves.begin(), exact.leaves.end(), std::int64_t{0});
    opened += std::accumulate(exact.opened.begin(), exact.opened.end(), std::int64_t{0});
  }
  if (!of.far() || options.open == opening::all || !decided) return;
  require(report.near_keys == near_keys && report.leaves == leaves && report.opened == opened);
}

}  // namespace fuzz
