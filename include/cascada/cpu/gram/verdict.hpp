#pragma once
// Verdicts on pairs of tokens: estimates decide what lies outside a margin, the canonical product decides the rest.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/canonical.hpp"
#include "cascada/cpu/base/margin.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

/// Token rows with their norms n_i and scaled norms tau n_i, all [T].
template <row_scalar Scalar>
struct gram_rows {
  matrix_view<const Scalar> x            = {};
  const float*              norms        = nullptr;
  const float*              scaled_norms = nullptr;
  float                     margin       = 0;  // sum_margin of x.cols
};

/// The product of a pair, in the order that is fastest for one pair.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE float any_order_product(const Scalar* a, const Scalar* b, index_t cols) noexcept {
  constexpr index_t accumulators = 4,
                    width        = vec<B>::width;  // a sum waits for the one before it, so several take turns
  vec<B>  sums[accumulators]     = {vec<B>::zero(), vec<B>::zero(), vec<B>::zero(), vec<B>::zero()};
  index_t k                      = 0;
  for (; k + accumulators * width <= cols; k += accumulators * width)
#pragma GCC unroll 4
    for (index_t c = 0; c < accumulators; ++c)
      sums[c] = multiply_add(load_floats<B>(a + k + c * width), load_floats<B>(b + k + c * width), sums[c]);
  for (; k + width <= cols; k += width) sums[0] = multiply_add(load_floats<B>(a + k), load_floats<B>(b + k), sums[0]);
  float sum = reduce_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; k < cols; ++k) sum += to_float(a[k]) * to_float(b[k]);
  return sum;
}

/// A product, and whether it is the canonical one or one within the margin.
template <cpu_backend B>
struct pair_value {
  float product   = 0;
  bool  canonical = false;
};

/// The verdict on token i and the earlier token j, asked of this pair alone.
template <cpu_backend B, row_scalar Scalar>
bool pair_covers(const gram_rows<Scalar>& rows, index_t i, index_t j, pair_value<B>& value) noexcept {
  const float norm_i = rows.norms[i], norm_j = rows.norms[j];
  if (norm_i == zero_row_norm || norm_j == zero_row_norm) return false;
  if (norm_i <= largest_estimated_norm && norm_j <= largest_estimated_norm) {
    value             = {any_order_product<B>(rows.x.row(i), rows.x.row(j), rows.x.cols), false};
    const float bound = rows.scaled_norms[i] * norm_j, slack = rows.margin * norm_i * norm_j;
    if (value.product < bound - slack) return false;
    if (value.product > bound + slack) return true;
  }
  value = {canonical_product<B>(rows.x.row(i), rows.x.row(j), rows.x.cols), true};
  return detail::covers(value.product, rows.scaled_norms[i], norm_j);
}

/// The same, given the product as a tile has it: the canonical one where the target has FMA.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE bool tile_covers(const gram_rows<Scalar>& rows, index_t i, index_t j, float product,
                                pair_value<B>& value) noexcept {
  value = {product, true};
  if constexpr (B::has_fma) return detail::covers(product, rows.scaled_norms[i], rows.norms[j]);
  // Most pairs are far from being covered.
  const float norm_i = rows.norms[i], norm_j = rows.norms[j];
  if (norm_i <= largest_estimated_norm && norm_j <= largest_estimated_norm)
    if (product < rows.scaled_norms[i] * norm_j - rows.margin * norm_i * norm_j) return false;
  return pair_covers<B>(rows, i, j, value);
}

/// Whether token i is nearer to token a than to token b, both of which cover it.
template <cpu_backend B, row_scalar Scalar>
bool nearer(const gram_rows<Scalar>& rows, index_t i, index_t a, pair_value<B>& of_a, index_t b,
            pair_value<B>& of_b) noexcept {
  const float norm_a = rows.norms[a], norm_b = rows.norms[b];
  if (!of_a.canonical || !of_b.canonical) {
    const double difference = detail::exact_product(of_a.product, norm_b) - detail::exact_product(of_b.product, norm_a);
    const double slack =
        2.0 * detail::exact_product(rows.margin, rows.norms[i]) * detail::exact_product(norm_a, norm_b);
    if (difference > slack || difference < -slack) return difference > 0;
    if (!of_a.canonical) of_a = {canonical_product<B>(rows.x.row(i), rows.x.row(a), rows.x.cols), true};
    if (!of_b.canonical) of_b = {canonical_product<B>(rows.x.row(i), rows.x.row(b), rows.x.cols), true};
  }
  return detail::nearer(of_a.product, norm_a, of_b.product, norm_b);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
