#pragma once
// The canonical product on the device: of rows on 16-byte boundaries, whose length is a multiple of 8.

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// The sum of the products of eights from `first` on, `step` apart, in turn.
template <matrix_scalar Scalar>
CASCADA_DEVICE CASCADA_INLINE float product_by_eights(const Scalar* a, const Scalar* b, index_t first, index_t step,
                                                      index_t cols) {
  float sum = 0;
  for (index_t k = first; k < cols; k += step) {
    const vector8 of_a = load_8(a + k), of_b = load_8(b + k);
#pragma GCC unroll 8
    for (index_t e = 0; e < 8; ++e) sum = __builtin_fmaf(to_float(Scalar{of_a[e]}), to_float(Scalar{of_b[e]}), sum);
  }
  return sum;
}

/// The canonical product (verdict.hpp).
template <matrix_scalar Scalar>
CASCADA_DEVICE CASCADA_INLINE float canonical_product(const Scalar* a, const Scalar* b, index_t cols) {
  return product_by_eights(a, b, 0, 8, cols);
}

}  // namespace cascada::inline CASCADA_ABI::hip
