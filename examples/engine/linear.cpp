#include "engine/linear.hpp"

#include <algorithm>
#include <cmath>

namespace engine {

void linear(const matrix& x, const stored_matrix& weight, matrix& y, const backend& where) {
  y.resize(x.rows(), weight.rows());
  // Pieces of both sizes: wide enough for the product to be efficient, many enough for a pool of any size.
  static constexpr index_t piece_rows = 512, piece_cols = 192, panel_depth = 1024;
  const index_t            down   = (rows_of(x) + piece_rows - 1) / piece_rows;
  const index_t            across = (weight.rows() + piece_cols - 1) / piece_cols;
  where.executor.parallel_for(down * across, [&](index_t i) {
    const index_t row = i / across * piece_rows, rows = std::min(piece_rows, rows_of(x) - row);
    const index_t col = i % across * piece_cols, cols = std::min(piece_cols, weight.rows() - col);
    auto          piece = y.block(row, col, rows, cols);
    matrix        panel;
    piece.setZero();
    for (index_t k = 0; k < weight.cols(); k += panel_depth) {
      const index_t depth = std::min(panel_depth, weight.cols() - k);
      const auto    left  = x.block(row, k, rows, depth);
      weight.read_block(col, k, cols, depth, panel);
      if (weight.is_transposed())
        piece.noalias() += left * panel;
      else
        piece.noalias() += left * panel.transpose();
    }
  });
}

void affine::operator()(const matrix& x, matrix& y, const backend& where) const {
  linear(x, weight, y, where);
  if (bias.size() == 0 && !cap) return;
  for_pieces(rows_of(y), 32, where, [&](index_t begin, index_t count) {
    auto rows = y.middleRows(begin, count);
    if (bias.size() > 0) rows.rowwise() += bias.row(0);
    if (cap) rows = rows.unaryExpr([most = *cap](float a) { return most * std::tanh(a / most); });
  });
}

}  // namespace engine
