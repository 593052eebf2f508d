#pragma once
// How well hidden states predict the next token.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "engine/linear.hpp"
#include "engine/matrix.hpp"

namespace engine {

/// Predictions of tokens 1 .. T-1 from those before.
struct predictions {
  double loss       = 0;  // mean negative log-likelihood, nats
  double perplexity = 0;  // its exponential
};

/// The same beside predictions from other hidden states.
struct compared_predictions : predictions {
  double divergence = 0;  // mean Kullback-Leibler divergence of these from the others', nats
  double agreement  = 0;  // share of positions where both name the same token
};

namespace detail {

/// One token's logits as a distribution.
struct distribution {
  Eigen::Index likeliest = 0;
  float        peak      = 0;
  double       sum       = 0;  // of exp(logit - peak)

  explicit distribution(const auto& logits) : peak(logits.maxCoeff(&likeliest)) {
    sum = (logits.array() - peak).exp().template cast<double>().sum();
  }
  /// The log of the sum of the logits' exponentials.
  double total() const { return std::log(sum) + static_cast<double>(peak); }
};

/// Calls `each(t, i)` for t in [0, count), on several threads, where row i of the matrices that `load(begin, length)`
/// fills belongs to t: logits exist for a few tokens at a time only.
template <class Load, class Each>
void for_predictions(index_t count, const backend& where, Load&& load, Each&& each) {
  for (index_t begin = 0; begin < count; begin += 256) {
    const index_t length = std::min<index_t>(256, count - begin);
    load(begin, length);
    for_pieces(length, 8, where, [&](index_t first, index_t rows) {
      for (index_t i = first; i < first + rows; ++i) each(static_cast<std::size_t>(begin + i), i);
    });
  }
}

inline double mean(const std::vector<double>& all) {
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

}  // namespace detail

/// hidden [T, d], output: d to the vocabulary; T >= 2.
inline predictions predict_next(const matrix& hidden, const affine& output, std::span<const index_t> tokens,
                                const backend& where) {
  std::vector<double> loss(tokens.size() - 1);
  matrix              logits;
  detail::for_predictions(
      static_cast<index_t>(loss.size()), where,
      [&](index_t begin, index_t length) { output(hidden.middleRows(begin, length), logits, where); },
      [&](std::size_t t, index_t i) {
        loss[t] = detail::distribution(logits.row(i)).total() - static_cast<double>(logits(i, tokens[t + 1]));
      });
  return {detail::mean(loss), std::exp(detail::mean(loss))};
}

/// hidden, others [T, d]; T >= 2.
inline compared_predictions compare_predictions(const matrix& hidden, const matrix& others, const affine& output,
                                                std::span<const index_t> tokens, const backend& where) {
  std::vector<double> loss(tokens.size() - 1), divergence(loss), agreement(loss);
  matrix              mine, theirs;
  const auto          load = [&](index_t begin, index_t length) {
    output(hidden.middleRows(begin, length), mine, where);
    output(others.middleRows(begin, length), theirs, where);
  };
  detail::for_predictions(static_cast<index_t>(loss.size()), where, load, [&](std::size_t t, index_t i) {
    const detail::distribution p(theirs.row(i)), q(mine.row(i));
    const auto                 weights = (theirs.row(i).array() - p.peak).exp();
    const auto                 nearer  = theirs.row(i).array() - mine.row(i).array();
    loss[t]                            = q.total() - static_cast<double>(mine(i, tokens[t + 1]));
    divergence[t] = (weights * nearer).template cast<double>().sum() / p.sum + q.total() - p.total();
    agreement[t]  = p.likeliest == q.likeliest ? 1 : 0;
  });
  return {{detail::mean(loss), std::exp(detail::mean(loss))}, detail::mean(divergence), detail::mean(agreement)};
}

}  // namespace engine
