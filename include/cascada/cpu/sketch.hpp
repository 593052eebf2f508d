#pragma once
// Sketches: the few coordinates that hold most of the energy of the tokens' rows.
//
// A model's rows put most of their energy in few coordinates, the same ones in all rows. The product over these is
// nearly the whole product: by Cauchy-Schwarz, what is left is at most the product of the norms of what is left.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/gram.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Coordinates by falling energy, measured on some of the rows.
template <cpu_backend B>
class sketch_coordinates {
 public:
  void reserve(index_t cols) { ranked_.reserve(cols); }

  template <row_scalar Scalar>
  void rank(matrix_view<const Scalar> x) noexcept {
    constexpr index_t samples = 32;
    for (index_t c = 0; c < x.cols; ++c) ranked_[c] = {0, c};
    const index_t step = std::max(1, x.rows / samples);
    for (index_t i = 0; i < x.rows; i += step) {
      const float square = any_order_product<B>(x.row(i), x.row(i), x.cols);
      if (!is_finite<B>(square) || square < 0x1p-60f) continue;
      for (index_t c = 0; c < x.cols; ++c) ranked_[c].energy += to_float(x.row(i)[c]) * to_float(x.row(i)[c]) / square;
    }
    std::sort(ranked_.data(), ranked_.data() + x.cols,
              [](const ranked& a, const ranked& b) { return a.energy > b.energy; });
  }

  /// The first `depth` coordinates of a row, and the sum of their squares.
  template <row_scalar Scalar>
  float sketch(const Scalar* row, index_t depth, float* coordinates) const noexcept {
    for (index_t c = 0; c < depth; ++c) coordinates[c] = to_float(row[ranked_[c].column]);
    return any_order_product<B>(coordinates, coordinates, depth);
  }

 private:
  struct ranked {
    float   energy;
    index_t column;
  };
  buffer<ranked, B> ranked_;
};

}  // namespace cascada::inline CASCADA_ABI::kernel
