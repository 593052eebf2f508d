#pragma once
// What a row's products with the columns of a panel decide: canonical ones all, estimates those outside their bounds.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

/// What estimates of a token's products decide. The product with a column of norm n_j and residual w_j is below the
/// threshold where its estimate is below low n_j - residual w_j, and above it where it exceeds high n_j + residual w_j.
template <cpu_backend B>
struct product_bounds {
  float low = 0, high = 0, residual = 0;
};

/// Norms and residuals of a panel's columns.
struct column_bounds {
  const float* norms;
  const float* residuals;
};

/// One row's products with the columns of a panel of `strips` strips.
template <cpu_backend B>
struct tile_row {
  const float* products;
  index_t      strips;

  /// Columns whose product is at least `scale` times their norm, as bits: the verdict of canonical products (but that a
  /// product of zero is not told apart from a threshold that underflowed to zero).
  CASCADA_INLINE std::uint64_t reached(float scale, const float* norms) const noexcept {
    return bits([&](index_t c, vec<B> product) {
      return bits_less_equal(vec<B>::broadcast(scale) * vec<B>::load(norms + c), product);
    });
  }

  /// Columns that may cover the row, and those that surely do.
  CASCADA_INLINE std::uint64_t possible(const product_bounds<B>& row, column_bounds columns) const noexcept {
    return bits(
        [&](index_t c, vec<B> product) { return bits_less_equal(edge(row.low, -row.residual, columns, c), product); });
  }
  CASCADA_INLINE std::uint64_t sure(const product_bounds<B>& row, column_bounds columns) const noexcept {
    return bits(
        [&](index_t c, vec<B> product) { return bits_less(edge(row.high, row.residual, columns, c), product); });
  }

 private:
  template <class Compare>
  CASCADA_INLINE std::uint64_t bits(const Compare& compare) const noexcept {
    std::uint64_t all = 0;
    for (index_t c = 0; c < strips * vec<B>::width; c += vec<B>::width)
      all |= std::uint64_t{compare(c, vec<B>::load(products + c))} << c;
    return all;
  }

  CASCADA_INLINE static vec<B> edge(float scale, float residual, column_bounds columns, index_t c) noexcept {
    return multiply_add(vec<B>::broadcast(residual), vec<B>::load(columns.residuals + c),
                        vec<B>::broadcast(scale) * vec<B>::load(columns.norms + c));
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
