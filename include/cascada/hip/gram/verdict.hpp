#pragma once
// Verdicts on pairs of tokens that equal the CPU's, from inexact products by the matrix units.
//
// The canonical product of a pair (verdict.hpp) adds in order. The matrix units add in an order that is not specified,
// so their sums decide only outside a margin; pairs inside it get the canonical product, on the device.
//
// The margin. Products of two bfloat16 or float16 are exact in float, so both sums differ from the true one by rounding
// of additions alone: the canonical one by at most g(2^-24) S, where S = sum |x_i[k]| |x_j[k]| <= |x_i| |x_j| and g(u)
// = d u / (1 - d u). For the matrix units we assume a unit roundoff of 2^-22 (four times float's; truncation would be
// 2^-23): g(2^-22) S. With d <= 2^18 the two together stay below (1.25 d 2^-22) / (1 - 1 / 16) |x_i| |x_j| <
// 1.34 d 2^-22 |x_i| |x_j|. The rest of 1.75 pays for n_i being a float at or below |x_i| and for the rounding of the
// bounds, d >= 8. We take it that the units of gfx942 keep subnormals, operands and sums, which those of gfx90a flush.
// Of float16, whose smallest normal number is 2^-14, operands have to be kept: no margin pays for them. What flushed
// operands of bfloat16 or sums would lose is paid for: in each of the 2 d steps less than 2^-126 (|x_i| + |x_j| + 1).

#include <limits>

#include "cascada/hip/base/canonical.hpp"
#include "cascada/verdict.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::gram {

inline constexpr index_t max_columns = index_t{1} << 18;

/// Token rows with their norms n_i [T], in device memory.
template <matrix_scalar Scalar>
struct gram_rows {
  matrix_view<const Scalar> x;
  float                     threshold = 1;  // tau
  float*                    norms     = nullptr;
};

/// The norm of a zero row.
inline constexpr float zero_row = std::numeric_limits<float>::max();

/// What a sum of the matrix units tells about a pair: at most one of the two. Neither: ask the canonical product.
struct gram_evidence {
  bool covered, apart;
};

/// Token i, which is judged with tokens j of norms n_j. A zero row's norm puts all its pairs below.
template <matrix_scalar Scalar>
class judged_token {
 public:
  CASCADA_DEVICE CASCADA_INLINE judged_token(const gram_rows<Scalar>& rows, index_t i, float norm)
      : rows_(rows),
        own_(i),
        scaled_(rows.threshold * norm),
        slope_(static_cast<float>(rows.x.cols) * (1.75f * 0x1p-22f * norm + 0x1p-125f)),
        offset_(static_cast<float>(rows.x.cols) * 0x1p-125f * (norm + 1.0f)),
        high_(rows.threshold * norm + slope_),
        low_(rows.threshold * norm - slope_) {}

  /// What a sum tells.
  CASCADA_DEVICE CASCADA_INLINE gram_evidence judge(float sum, float norm_j) const {
    return {sum > __builtin_fmaf(norm_j, high_, offset_), sum < __builtin_fmaf(norm_j, low_, -offset_)};
  }

  /// How far a sum may lie from the canonical product.
  CASCADA_DEVICE CASCADA_INLINE float error(float norm_j) const { return __builtin_fmaf(norm_j, slope_, offset_); }

  CASCADA_DEVICE CASCADA_INLINE float product(index_t j) const {
    return canonical_product(rows_.x.row(own_), rows_.x.row(j), rows_.x.cols);
  }

  /// The canonical verdict on a canonical product.
  CASCADA_DEVICE CASCADA_INLINE bool covered(float product, float norm_j) const {
    return detail::covers(product, scaled_, norm_j);
  }

 private:
  const gram_rows<Scalar>& rows_;
  index_t                  own_;
  float                    scaled_, slope_, offset_, high_, low_;
};

/// The canonical verdict on one pair, by a whole wave. The product is summed over lanes; inside the margin the lanes
/// compute the canonical one side by side, all the same. `rechecks` counts those.
template <class Gpu, matrix_scalar Scalar>
CASCADA_DEVICE CASCADA_INLINE bool wave_covers(Gpu& gpu, const gram_rows<Scalar>& rows, index_t i, index_t j,
                                               index_t& rechecks) {
  const float sum    = product_by_eights(rows.x.row(i), rows.x.row(j), gpu.lane() * 8, gfx942::wave * 8, rows.x.cols);
  const float norm_j = rows.norms[j];
  const judged_token token(rows, i, rows.norms[i]);
  const auto         seen = token.judge(sum_of_wave(gpu, sum), norm_j);
  if (seen.covered | seen.apart) return seen.covered;
  rechecks += gpu.lane() == 0;
  return token.covered(token.product(j), norm_j);
}

}  // namespace cascada::inline CASCADA_ABI::hip::gram
