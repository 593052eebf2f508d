#pragma once
// What a query may attend to: a token, or a group of tokens, which its mean key and mean value stand for.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/config.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::reference {

/// One sequence: q [tokens, heads, key_dim], k [tokens, kv_heads, key_dim], v [tokens, kv_heads, value_dim].
template <class Real>
struct attention_input {
  index_t           tokens = 0, heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
  std::vector<Real> q, k, v;
  std::vector<Real> sink_logits = {}, slopes = {};  // [heads], or none

  // How means and weights are rounded before they are multiplied: not at all. A test may have other arithmetic.
  Real (*round)(Real) = [](Real x) { return x; };

  index_t     group() const { return heads / kv_heads; }
  const Real* query(index_t t, index_t h) const { return q.data() + (std::ptrdiff_t{t} * heads + h) * key_dim; }
  const Real* key(index_t t, index_t g) const { return k.data() + (std::ptrdiff_t{t} * kv_heads + g) * key_dim; }
  const Real* value(index_t t, index_t g) const { return v.data() + (std::ptrdiff_t{t} * kv_heads + g) * value_dim; }
};

/// For every token another one that stands for it: its representative, or the first of its chain.
using assignment_of_tokens = std::vector<index_t>;

/// One thing to attend to: a token, or a group of tokens.
template <class Real>
struct source {
  const Real*              key;
  const Real*              value;
  Real                     count    = 1;
  const std::vector<Real>* variance = nullptr;  // of the keys, one for each group of dimensions
  index_t                  position = 0;        // of a token
};

/// Tokens that are attended to together: a leaf, or a whole cluster.
template <class Real>
struct group_of_tokens {
  std::vector<index_t> members;  // ascending
  std::vector<Real>    key, value, variance;

  Real         count() const { return static_cast<Real>(members.size()); }
  source<Real> summary() const { return {key.data(), value.data(), count(), &variance}; }
};

/// Of rows [dim].
template <class Real>
std::vector<Real> mean(const std::vector<const Real*>& rows, index_t dim) {
  std::vector<Real> sum(static_cast<std::size_t>(dim), Real(0));
  for (const Real* row : rows)
    for (index_t c = 0; c < dim; ++c) sum[static_cast<std::size_t>(c)] += row[c];
  for (Real& x : sum) x /= static_cast<Real>(rows.size());
  return sum;
}

/// A row as the input has numbers rounded.
template <class Real>
std::vector<Real> rounded(std::vector<Real> row, const attention_input<Real>& in) {
  for (Real& x : row) x = in.round(x);
  return row;
}

/// Where group g of `groups` groups of `dim` dimensions begins.
inline index_t group_edge(index_t g, index_t dim, index_t groups) {
  return static_cast<index_t>(std::int64_t{g} * dim / groups);
}

/// The mean variance of keys over the dimensions of each of `groups` groups.
template <class Real>
std::vector<Real> variances(const std::vector<const Real*>& keys, index_t dim, index_t groups) {
  const auto        exact = mean<Real>(keys, dim);
  std::vector<Real> all;
  for (index_t g = 0; g < groups; ++g) {
    const index_t begin = group_edge(g, dim, groups), end = group_edge(g + 1, dim, groups);
    Real          sum = 0;
    for (const Real* key : keys)
      for (index_t c = begin; c < end; ++c) {
        const Real distance = key[c] - exact[static_cast<std::size_t>(c)];
        sum += distance * distance;
      }
    all.push_back(end > begin ? sum / static_cast<Real>(keys.size()) / static_cast<Real>(end - begin) : Real(0));
  }
  return all;
}

/// The mean as floats have it, of finite rows finite: a sum of floats, made again where it overflows. What it is
/// rounded to depends on its last digit.
template <class Real>
std::vector<float> float_mean(const std::vector<const Real*>& rows, index_t dim) {
  const auto         count = static_cast<float>(rows.size());
  std::vector<float> all;
  for (index_t c = 0; c < dim; ++c) {
    float  sum   = 0;
    double exact = 0;
    for (const Real* row : rows) {
      sum += static_cast<float>(row[c]);
      exact += static_cast<double>(row[c]);
    }
    all.push_back(std::isfinite(sum) ? sum / count : static_cast<float>(exact / static_cast<double>(count)));
  }
  return all;
}

/// The mean as bfloat16, of finite rows finite.
template <class Real>
std::vector<Real> rounded_mean(const std::vector<const Real*>& rows, index_t dim) {
  const float       most = to_float(bfloat16{0x7f7f});
  std::vector<Real> all;
  for (const float x : float_mean(rows, dim)) {
    const auto nearest = from_float<bfloat16>(std::isfinite(x) ? std::clamp(x, -most, most) : x);
    all.push_back(static_cast<Real>(to_float(nearest)));
  }
  return all;
}

/// The mean as integers in units of a 63rd of its largest element, to nearest; zero if that is below 2^-100. NaN in one
/// element makes all of them NaN. Beside infinite ones, the others are zero.
template <class Real>
std::vector<Real> mean_of_bytes(const std::vector<const Real*>& rows, index_t dim) {
  const auto        exact = float_mean(rows, dim);
  std::vector<Real> all(exact.size(), Real(0));
  float             top = 0;
  for (const float x : exact) {
    if (std::isnan(x)) return std::vector<Real>(all.size(), std::numeric_limits<Real>::quiet_NaN());
    top = std::max(top, std::fabs(x));
  }
  if (top < 0x1p-100f) return all;
  const float unit = 63 / top, scale = top / 63;
  for (std::size_t c = 0; c < all.size(); ++c)
    if (std::isinf(top))
      all[c] = std::isinf(exact[c]) ? static_cast<Real>(exact[c]) : Real(0);
    else
      all[c] = static_cast<Real>(static_cast<int>(std::nearbyint(exact[c] * unit))) * static_cast<Real>(scale);
  return all;
}

/// Fills in what stands for the members.
template <class Real>
void summarise(group_of_tokens<Real>& group, const attention_input<Real>& in, index_t g, index_t moments,
               summary_type kept = summary_type::as_multiplied) {
  std::vector<const Real*> keys, values;
  for (const index_t i : group.members) keys.push_back(in.key(i, g)), values.push_back(in.value(i, g));
  group.key      = rounded(mean(keys, in.key_dim), in);
  group.value    = rounded(mean(values, in.value_dim), in);
  group.variance = variances(keys, in.key_dim, moments);
  switch (kept) {
    case summary_type::as_multiplied: break;
    case summary_type::bfloat16:
      group.key   = rounded_mean(keys, in.key_dim);
      group.value = rounded_mean(values, in.value_dim);
      break;
    case summary_type::bytes:
      group.key   = mean_of_bytes(keys, in.key_dim);
      group.value = mean_of_bytes(values, in.value_dim);
      if (std::any_of(group.value.begin(), group.value.end(), [](Real x) { return std::isinf(x); }))
        group.value.assign(group.value.size(), std::numeric_limits<Real>::quiet_NaN());
      break;
  }
}

}  // namespace cascada::inline CASCADA_ABI::reference
