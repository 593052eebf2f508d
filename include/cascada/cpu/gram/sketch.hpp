#pragma once
// Sketches: the few coordinates that hold most of the energy of the tokens' rows.
//
// A model's rows put most of their energy in few coordinates, the same ones in all rows. The product over these is
// nearly the whole product: by Cauchy-Schwarz, what is left is at most the product of the norms of what is left.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/gram/verdict.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

/// Coordinates by falling energy, measured on some of the rows.
template <cpu_backend B>
class sketch_coordinates {
 public:
  void reserve(index_t cols) { ranked_.reserve(cols); }

  template <row_scalar Scalar>
  void rank(matrix_view<const Scalar> x) noexcept {
    constexpr index_t samples = 32;  // a poor order costs rechecks, never the set
    for (index_t c = 0; c < x.cols; ++c) ranked_[c] = {0, c};
    const index_t step = std::max(1, x.rows / samples);
    for (index_t i = 0; i < x.rows; i += step) {
      if (!ordinary(x.row(i), x.cols)) continue;
      const float square = any_order_product<B>(x.row(i), x.row(i), x.cols);
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
  /// Whether the sum of a row's squares is far from overflow, (2^50)^2 times 2^20 elements, and from underflow. By
  /// bits, which order NaN as the largest.
  template <row_scalar Scalar>
  static bool ordinary(const Scalar* row, index_t cols) noexcept {
    std::uint32_t largest = 0;
    for (index_t c = 0; c < cols; ++c)
      largest = std::max(largest, std::bit_cast<std::uint32_t>(to_float(row[c])) & 0x7fff'ffffu);
    return largest >= std::bit_cast<std::uint32_t>(0x1p-30f) && largest <= std::bit_cast<std::uint32_t>(0x1p50f);
  }

  struct ranked {
    float   energy;
    index_t column;
  };
  buffer<ranked, B> ranked_;
};

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
