#pragma once
// What a product tells about a pair that was not summed in the canonical order.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// How far a product that was summed in any order, with FMA or without, may lie from the canonical one, in units of
/// n_i n_j: the margin outside of which it gives the verdict.
///
/// With u = 2^-24 and S = sum |x_i[k] x_j[k]| <= |x_i| |x_j|: whatever the order, a term passes through at most d
/// roundings, and one more where products are rounded before they are added, so the sum lies within (d + 1) u S of the
/// exact product, to first order, and the canonical one within d u S. |x_i| exceeds n_i by a factor of at most
/// 1 + (d + 2) u / 2. Comparing adds a few u. Together below (2 d + 40) u with much to spare; twice that covers the
/// higher orders while d < 2^20, and what is lost where results fall below the normal range, because norms are at least
/// 2^-30: d results of at most 2^-126 each are below d 2^-66 n_i n_j, also where such results become zero. From
/// d = 2^20 on the margin decides nothing: no sum is as far from tau n_i n_j as 4 n_i n_j.
template <cpu_backend B>
CASCADA_INLINE float sum_margin(index_t cols) noexcept {
  return cols < (1 << 20) ? static_cast<float>(cols + 20) * 0x1p-22f : 4.0f;
}

/// Beyond this norm, sums of a product's terms might overflow before they cancel: only the canonical one decides. Nor
/// are zero rows estimated.
inline constexpr float largest_estimated_norm = 0x1p62f;

/// Rows, as bits, that may cover a row of `cols` elements and norm `norm`, given their `products` with it, summed with
/// k ascending. With FMA those are canonical, and this is the verdict; else what it lets through needs the canonical
/// one.
template <cpu_backend B>
CASCADA_INLINE std::uint32_t rows_that_may_cover(float scaled_norm, float norm, index_t cols, vec<B> norms,
                                                 vec<B> products) noexcept {
  const auto low = vec<B>::broadcast(scaled_norm) * norms;
  if constexpr (B::has_fma) {
    return bits_less_equal(low, products) & bits_less(vec<B>::zero(), products);
  } else {  // sums may overflow
    if (norm > largest_estimated_norm) return ~std::uint32_t{0};
    return bits_less_equal(low - vec<B>::broadcast(sum_margin<B>(cols) * norm) * norms, products) |
           bits_less(vec<B>::broadcast(largest_estimated_norm), norms);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
