#pragma once
// Normalisation of rows.

#include "engine/matrix.hpp"

namespace engine {

/// y_i = x_i / sqrt(mean(x_i^2) + epsilon) * weight (RMSNorm, arXiv:1910.07467).
inline void rms_norm(const matrix& x, const matrix& weight, float epsilon, matrix& y, const backend& where) {
  y.resize(x.rows(), x.cols());
  for_pieces(rows_of(x), 32, where, [&](index_t begin, index_t count) {
    for (index_t i = begin; i < begin + count; ++i) {
      const float scale = 1 / std::sqrt(x.row(i).squaredNorm() / static_cast<float>(x.cols()) + epsilon);
      y.row(i)          = (x.row(i) * scale).cwiseProduct(weight.row(0));
    }
  });
}

/// Weight and bias of a layer normalisation, [1, hidden] each.
struct layer_norm {
  matrix weight, bias;

  /// y_i = (x_i - mean) / sqrt(variance + epsilon) * weight + bias (arXiv:1607.06450).
  void operator()(const matrix& x, float epsilon, matrix& y, const backend& where) const {
    y.resize(x.rows(), x.cols());
    for_pieces(rows_of(x), 32, where, [&](index_t begin, index_t count) {
      for (index_t i = begin; i < begin + count; ++i) {
        y.row(i)          = x.row(i).array() - x.row(i).mean();
        const float scale = 1 / std::sqrt(y.row(i).squaredNorm() / static_cast<float>(x.cols()) + epsilon);
        y.row(i)          = (y.row(i) * scale).cwiseProduct(weight.row(0)) + bias.row(0);
      }
    });
  }
};

}  // namespace engine
