#pragma once
// Linear layers: Eigen's matrix product, spread over the backend's threads.

#include "engine/matrix.hpp"

namespace engine {

/// y [T, out] = x [T, in] W^T, W [out, in].
inline void linear(const matrix& x, const matrix& weight, matrix& y, const backend& where) {
  y.resize(x.rows(), weight.rows());
  // Pieces of both sizes: wide enough for the product to be efficient, many enough for a pool of any size.
  static constexpr index_t piece_rows = 512, piece_cols = 192;
  const index_t            down   = (rows_of(x) + piece_rows - 1) / piece_rows;
  const index_t            across = (rows_of(weight) + piece_cols - 1) / piece_cols;
  where.executor.parallel_for(down * across, [&](index_t i) {
    const index_t row = i / across * piece_rows, rows = std::min(piece_rows, rows_of(x) - row);
    const index_t col = i % across * piece_cols, cols = std::min(piece_cols, rows_of(weight) - col);
    y.block(row, col, rows, cols).noalias() = x.middleRows(row, rows) * weight.middleRows(col, cols).transpose();
  });
}

/// A linear layer with a bias.
struct affine {
  matrix weight;  // [out, in]
  matrix bias;    // [1, out], or empty: none

  void operator()(const matrix& x, matrix& y, const backend& where) const {
    linear(x, weight, y, where);
    if (bias.size() == 0) return;
    for_pieces(rows_of(y), 32, where,
               [&](index_t begin, index_t count) { y.middleRows(begin, count).rowwise() += bias.row(0); });
  }
};

}  // namespace engine
