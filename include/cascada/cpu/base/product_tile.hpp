#pragma once
// The product of a few rows with a few vectors of packed columns, in registers.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Sums of Rows rows and Vectors vectors of columns.
template <cpu_backend B, index_t Rows, index_t Vectors>
struct product_tile {
  vec<B> sum[extent(Rows)][extent(Vectors)];

  /// begin_with(i, v) is what the sums of row i and vector v begin with.
  template <class Begin>
  CASCADA_INLINE void begin(const Begin& begin_with) noexcept {
#pragma GCC unroll 8
    for (index_t i = 0; i < Rows; ++i)
#pragma GCC unroll 8
      for (index_t v = 0; v < Vectors; ++v) sum[i][v] = begin_with(i, v);
  }

  /// Adds the products of steps [first, last), lanes of E, in turn, so that a lane sums in one order. rows
  /// [Rows] are those of the left side; right(k, column) brings the vectors of columns.
  template <class E, class Right>
  CASCADA_INLINE void add(index_t first, index_t last, const float* const* rows, const Right& right) noexcept {
    const float* row[extent(Rows)];
#pragma GCC unroll 8
    for (index_t i = 0; i < Rows; ++i) row[i] = rows[i];
#pragma GCC unroll 2
    for (index_t k = first; k < last; ++k) {
      vec<B> column[extent(Vectors)];
      right(k, column);
#pragma GCC unroll 8
      for (index_t i = 0; i < Rows; ++i) {
        const auto element = vec<B>::broadcast(row[i][k]);
#pragma GCC unroll 8
        for (index_t v = 0; v < Vectors; ++v) sum[i][v] = add_products<E>(element, column[v], sum[i][v]);
      }
    }
  }

  /// to [Rows, stride] = the sums.
  CASCADA_INLINE void store(float* to, std::int64_t stride) const noexcept {
#pragma GCC unroll 8
    for (index_t i = 0; i < Rows; ++i)
#pragma GCC unroll 8
      for (index_t v = 0; v < Vectors; ++v) sum[i][v].store(to + i * stride + v * vec<B>::width);
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel
