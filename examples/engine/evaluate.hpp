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

/// Share of positions where both name the same token.
inline double top1_agreement(const predictions& a, const predictions& b) {
  std::size_t same = 0;
  for (std::size_t i = 0; i < a.likeliest.size(); ++i) same += a.likeliest[i] == b.likeliest[i];
  return static_cast<double>(same) / static_cast<double>(a.likeliest.size());
}

}  // namespace engine
