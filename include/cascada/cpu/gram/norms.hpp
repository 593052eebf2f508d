#pragma once
// Norms of token rows.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/canonical.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

/// Why some row has no norm. O(T d), after the fact.
template <cpu_backend B, row_scalar Scalar>
status why_no_norm(matrix_view<const Scalar> x) noexcept {
  for (index_t i = 0; i < x.rows; ++i)
    for (index_t k = 0; k < x.cols; ++k)
      if (!detail::is_finite(to_float(x.row(i)[k]))) return {status::non_finite_token, "x has NaN or Inf"};
  return {status::non_finite_token, "x has a row whose squared norm overflows"};
}

/// Norms of rows [begin, end). False if one has NaN or Inf, or its square overflows: each of them shows in the square.
template <cpu_backend B, row_scalar Scalar>
bool compute_norms(matrix_view<const Scalar> x, float tau, index_t begin, index_t end, float* norms,
                   float* scaled_norms) noexcept {
  // Only rows that are there are read ahead: the stride may say anything where there are no more.
  const auto ahead = [&](index_t i) {
    return i + 2 * vec<B>::width <= x.rows ? std::int64_t{vec<B>::width} * x.stride : 0;
  };
  bool       finite = true;
  const auto take   = [&](index_t i, float square) {
    if (!detail::is_finite(square)) {
      finite = false;
      return;
    }
    norms[i]        = norm_of<B>(square);
    scaled_norms[i] = norms[i] == zero_row_norm ? zero_row_scaled_norm : opaque<B>(tau * norms[i]);
  };
  squares_of_rows<B>(begin, end, x.cols, [&](index_t i) { return x.row(i); }, ahead, take);
  return finite;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
