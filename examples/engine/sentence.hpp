#pragma once
// Sentence embeddings from an encoder's hidden states, and how well one kind of attention keeps those of another.

#include <algorithm>
#include <numeric>
#include <vector>

#include "engine/matrix.hpp"

namespace engine {

/// The mean of the rows of hidden [T, d], scaled to length 1: how sentence-transformers pools MiniLM.
inline vector sentence_embedding(const matrix& hidden) { return vector(hidden.colwise().mean()).normalized(); }

/// Cosines of all pairs of embeddings, pair (i, j), j < i, in order of i, then j.
inline std::vector<float> pair_cosines(const std::vector<vector>& embeddings) {
  std::vector<float> out;
  for (std::size_t i = 0; i < embeddings.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) out.push_back(embeddings[i].dot(embeddings[j]));
  return out;
}

/// The ranks of values, from 0; equal values share the mean of their ranks.
inline std::vector<double> ranks(const std::vector<float>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> out(values.size());
  for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    for (std::size_t i = first; i < last; ++i) out[order[i]] = static_cast<double>(first + last - 1) / 2;
  }
  return out;
}

/// Spearman's rank correlation, in [-1, 1]: whether both order the same things alike. 0 where one of them is constant.
inline double rank_correlation(const std::vector<float>& a, const std::vector<float>& b) {
  const std::vector<double> x = ranks(a), y = ranks(b);
  const double              mean = (static_cast<double>(x.size()) - 1) / 2;
  double                    xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx == 0 || yy == 0 ? 0.0 : xy / std::sqrt(xx * yy);
}

}  // namespace engine
