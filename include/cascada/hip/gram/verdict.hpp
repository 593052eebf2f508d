#pragma once
// Verdicts on pairs of tokens that equal the CPU's, from inexact products by the matrix units (base/margin.hpp).

#include <limits>

#include "cascada/hip/base/canonical.hpp"
#include "cascada/hip/base/margin.hpp"
#include "cascada/verdict.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::gram {

/// Token rows with their norms n_i [T], in device memory.
template <class Scalar>
struct gram_rows {
  matrix_view<const Scalar> x;
  float                     threshold = 1;  // tau
  float*                    norms     = nullptr;

  CASCADA_DEVICE CASCADA_INLINE const Scalar* row(index_t i) const { return x.row(i); }
};

/// The same behind representatives of earlier calls, whose rows, and norms, have numbers below 0.
template <class Scalar>
struct gram_rows_behind : gram_rows<Scalar> {
  matrix_view<const Scalar> kept;

  CASCADA_DEVICE CASCADA_INLINE const Scalar* row(index_t i) const { return i < 0 ? kept.row(i) : this->x.row(i); }
};

/// The norm of a zero row.
inline constexpr float zero_row_norm = std::numeric_limits<float>::max();

/// Token i, which is judged with tokens j of norms n_j. A zero row's norm puts all its pairs below.
template <class Rows>
class judged_token {
 public:
  CASCADA_DEVICE CASCADA_INLINE judged_token(const Rows& rows, index_t i, float norm)
      : rows_(rows), own_(i), scaled_(rows.threshold * norm), margin_(rows.threshold, norm, rows.x.cols) {}

  /// What a sum tells, and how far it may lie from the canonical product.
  CASCADA_DEVICE CASCADA_INLINE gram_evidence judge(float sum, float norm_j) const {
    return margin_.judge(sum, norm_j);
  }
  CASCADA_DEVICE CASCADA_INLINE float error(float norm_j) const { return margin_.error(norm_j); }

  CASCADA_DEVICE CASCADA_INLINE float product(index_t j) const {
    return canonical_product(rows_.x.row(own_), rows_.row(j), rows_.x.cols);
  }

  /// The canonical verdict on a canonical product.
  CASCADA_DEVICE CASCADA_INLINE bool covered(float product, float norm_j) const {
    return detail::covers(product, scaled_, norm_j);
  }

 private:
  const Rows& rows_;
  index_t     own_;
  float       scaled_;
  sum_margin  margin_;
};

/// The canonical verdict on one pair, by a whole wave. The product is summed over lanes; inside the margin the lanes
/// compute the canonical one side by side, all the same. `rechecks` counts those.
template <class Gpu, class Rows>
CASCADA_DEVICE CASCADA_INLINE bool wave_covers(Gpu& gpu, const Rows& rows, index_t i, index_t j, index_t& rechecks) {
  const float        sum = product_by_eights(rows.x.row(i), rows.row(j), gpu.lane() * 8, gfx942::wave * 8, rows.x.cols);
  const float        norm_j = rows.norms[j];
  const judged_token token(rows, i, rows.norms[i]);
  const auto         seen = token.judge(sum_of_wave(gpu, sum), norm_j);
  if (seen.covered | seen.apart) return seen.covered;
  rechecks += gpu.lane() == 0;
  return token.covered(token.product(j), norm_j);
}

}  // namespace cascada::inline CASCADA_ABI::hip::gram
