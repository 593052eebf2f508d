#pragma once
// How well hidden states predict the next token.

#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "engine/linear.hpp"
#include "engine/matrix.hpp"

namespace engine {

/// Predictions of tokens 1 .. T-1 from those before.
struct predictions {
  double               perplexity = 0;  // exp of the mean negative log-likelihood
  std::vector<index_t> likeliest;       // [T - 1] the token of largest logit
};

/// hidden [T, d], output: d to the vocabulary; T >= 2. Logits exist for a few tokens at a time only.
inline predictions predict_next(const matrix& hidden, const affine& output, std::span<const index_t> tokens,
                                const backend& where) {
  const auto          count = static_cast<index_t>(tokens.size()) - 1;
  std::vector<double> loss(static_cast<std::size_t>(count));
  predictions         out;
  out.likeliest.resize(static_cast<std::size_t>(count));
  matrix logits;
  for (index_t begin = 0; begin < count; begin += 256) {
    const index_t length = std::min<index_t>(256, count - begin);
    output(hidden.middleRows(begin, length), logits, where);
    for_pieces(length, 8, where, [&](index_t first, index_t rows) {
      for (index_t i = first; i < first + rows; ++i) {
        const auto   t    = static_cast<std::size_t>(begin + i);
        Eigen::Index best = 0;
        const float  peak = logits.row(i).maxCoeff(&best);
        const double sum  = (logits.row(i).array() - peak).exp().cast<double>().sum();
        loss[t]           = std::log(sum) + static_cast<double>(peak) - static_cast<double>(logits(i, tokens[t + 1]));
        out.likeliest[t]  = static_cast<index_t>(best);
      }
    });
  }
  out.perplexity = std::exp(std::accumulate(loss.begin(), loss.end(), 0.0) / count);
  return out;
}

/// Predictions beside those of other hidden states.
struct comparison_of_predictions {
  double loss       = 0;  // mean negative log-likelihood, nats
  double divergence = 0;  // mean Kullback-Leibler divergence of these from the others', nats
  double agreement  = 0;  // share of positions where both name the same token
};

/// hidden, others [T, d]; T >= 2.
inline comparison_of_predictions compare_predictions(const matrix& hidden, const matrix& others, const affine& output,
                                                     std::span<const index_t> tokens, const backend& where) {
  const auto          count = static_cast<index_t>(tokens.size()) - 1;
  std::vector<double> loss(static_cast<std::size_t>(count)), divergence(loss), agreement(loss);
  matrix              mine, theirs;
  for (index_t begin = 0; begin < count; begin += 256) {
    const index_t length = std::min<index_t>(256, count - begin);
    output(hidden.middleRows(begin, length), mine, where);
    output(others.middleRows(begin, length), theirs, where);
    for_pieces(length, 8, where, [&](index_t first, index_t rows) {
      for (index_t i = first; i < first + rows; ++i) {
        const auto   t    = static_cast<std::size_t>(begin + i);
        Eigen::Index best = 0, other_best = 0;
        const float  peak = mine.row(i).maxCoeff(&best), other_peak = theirs.row(i).maxCoeff(&other_best);
        const double total =
            std::log((mine.row(i).array() - peak).exp().cast<double>().sum()) + static_cast<double>(peak);
        const auto   weights     = (theirs.row(i).array() - other_peak).exp();
        const double other_sum   = weights.cast<double>().sum();
        const double other_total = std::log(other_sum) + static_cast<double>(other_peak);
        const double difference =
            (weights * (theirs.row(i).array() - mine.row(i).array())).cast<double>().sum() / other_sum;
        loss[t]       = total - static_cast<double>(mine(i, tokens[t + 1]));
        divergence[t] = difference + total - other_total;
        agreement[t]  = best == other_best ? 1 : 0;
      }
    });
  }
  const auto mean = [&](const std::vector<double>& all) {
    return std::accumulate(all.begin(), all.end(), 0.0) / count;
  };
  return {mean(loss), mean(divergence), mean(agreement)};
}

/// Share of positions where both name the same token.
inline double top1_agreement(const predictions& a, const predictions& b) {
  std::size_t same = 0;
  for (std::size_t i = 0; i < a.likeliest.size(); ++i) same += a.likeliest[i] == b.likeliest[i];
  return static_cast<double>(same) / static_cast<double>(a.likeliest.size());
}

}  // namespace engine
