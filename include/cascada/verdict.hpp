#pragma once
// The verdict that every backend gives alike: whether a token covers a later one, from their canonical product.
//
// The canonical product of two rows is s = fma(x_i[k], x_j[k], s), k ascending, in float. A backend has its
// own way to it (cpu/base/canonical.hpp, hip/base/canonical.hpp), and its own norm for a zero row.

#include <bit>
#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/finite.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// Exact: in double, the product of two floats is not rounded.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr double exact_product(float a, float b) noexcept {
  return static_cast<double>(a) * static_cast<double>(b);
}

/// Whether a row's product with itself, which is finite, is that of a zero row. Such rows cover nothing, and nothing
/// covers them.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr bool is_zero_row(float square) noexcept {
  return square < 0x1p-60f;
}

/// Norm of any other row: the largest float with norm^2 <= square, so that a row covers its duplicates even at tau = 1.
/// Neither the accuracy of sqrt nor -ffast-math matters.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE float norm_of(float square) noexcept {
  auto norm = static_cast<float>(__builtin_sqrt(static_cast<double>(square)));
  while (exact_product(norm, norm) > static_cast<double>(square))
    norm = std::bit_cast<float>(std::bit_cast<std::uint32_t>(norm) - 1);
  for (float next = norm; exact_product(next, next) <= static_cast<double>(square);
       next       = std::bit_cast<float>(std::bit_cast<std::uint32_t>(norm) + 1))
    norm = next;
  return norm;
}

/// The same for any row; `of_none` for a zero row, or one whose square is not finite.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE float norm_or(float square, float of_none) noexcept {
  return is_finite(square) && !is_zero_row(square) ? norm_of(square) : of_none;
}

/// The verdict: token j covers a later token i iff their canonical product is positive and at least (tau n_i) n_j.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr bool covers(float product, float scaled_norm,
                                                                       float norm) noexcept {
  return product > 0 && product >= scaled_norm * norm;
}

/// Whether product_a / norm_a > product_b / norm_b, for canonical products.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr bool nearer(float product_a, float norm_a, float product_b,
                                                                       float norm_b) noexcept {
  return exact_product(product_a, norm_b) > exact_product(product_b, norm_a);
}

}  // namespace cascada::inline CASCADA_ABI::detail
