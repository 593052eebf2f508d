#pragma once
// Canonical products (cascada/verdict.hpp), the same on every path, block shape and thread count; and norms.
//
// A vector lane that holds one accumulator per pair and walks k in order is that sum bit for bit, so tiles of any shape
// agree (product_tile.hpp).

#include <bit>
#include <cmath>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/scalar.hpp"
#include "cascada/verdict.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Hides a value's origin from the compiler, so that -ffast-math cannot regroup (tau n_i) n_j.
template <cpu_backend B>
CASCADA_INLINE float opaque(float value) noexcept {
  asm("" : "+m"(value));
  return value;
}

/// The canonical products of as many rows as a vector has lanes, each with itself. Patches of them are transposed,
/// so that a lane walks along its row; one alone would wait for every sum. `ahead`: where the rows read next lie.
/// Flat, as transpositions are elsewhere: g++ would pass Eigen's registers through memory.
template <cpu_backend B, row_scalar Scalar>
[[gnu::flatten]] void squares(const Scalar* const* rows, std::int64_t ahead, index_t cols, float* products) noexcept {
  constexpr index_t lanes = vec<B>::width;
  auto              sum   = vec<B>::zero();
  index_t           k     = 0;
  for (; B::has_fma && k + lanes <= cols; k += lanes) {
    vec<B> elements[extent(lanes)];
    for (index_t lane = 0; lane < lanes; ++lane) {
      __builtin_prefetch(rows[lane] + ahead + k);
      elements[lane] = load_floats<B>(rows[lane] + k);
    }
    transpose(elements);
    for (index_t step = 0; step < lanes; ++step) sum = multiply_add(elements[step], elements[step], sum);
  }
  sum.store(products);
  for (index_t lane = 0; lane < lanes; ++lane)
    for (index_t rest = k; rest < cols; ++rest)
      products[lane] = std::fma(to_float(rows[lane][rest]), to_float(rows[lane][rest]), products[lane]);
}

/// Calls use(i, square) for the rows row(i), i in [begin, end), a vector of them at a time. ahead(i): how far behind
/// row(i) the row lies that is read next; 0 where nobody knows.
template <cpu_backend B, class Row, class Ahead, class Use>
CASCADA_INLINE void squares_of_rows(index_t begin, index_t end, index_t cols, const Row& row, const Ahead& ahead,
                                    const Use& use) noexcept {
  constexpr index_t lanes = vec<B>::width;
  for (index_t first = begin; first < end; first += lanes) {
    decltype(row(begin)) rows[extent(lanes)];
    float                products[extent(lanes)];
    for (index_t lane = 0; lane < lanes; ++lane) rows[lane] = row(first + lane < end ? first + lane : end - 1);
    squares<B>(rows, ahead(first), cols, products);
    for (index_t i = first; i < end && i < first + lanes; ++i) use(i, products[i - first]);
  }
}

/// The canonical product of one pair. Elements of b lie `stride` apart.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE float canonical_product(const Scalar* a, const Scalar* b, index_t cols, index_t stride = 1) noexcept {
  float sum = 0;
  for (index_t k = 0; k < cols; ++k) sum = std::fma(to_float(a[k]), to_float(b[std::int64_t{k} * stride]), sum);
  return sum;
}

/// Stand for the norm n of a zero row, and for tau n, so that the verdict needs to know nothing of it. Its product with
/// a row of norm m is below 2^-29 m in size; what that is compared with is 2^63 m, or tau m 2^64 with tau at least
/// 2^-90, so it covers nothing and nothing covers it. No other row has such a norm: the largest is 2^64 (1 - 2^-24),
/// and so neither these products overflow, nor those of zero rows with each other.
inline constexpr float zero_row_norm = 0x1p64f, zero_row_scaled_norm = 0x1p63f;

/// Norm of a row whose product with itself is `square`.
template <cpu_backend B>
CASCADA_INLINE float norm_of(float square) noexcept {
  return detail::norm_or(square, zero_row_norm);
}

}  // namespace cascada::inline CASCADA_ABI::kernel
