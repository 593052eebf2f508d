#pragma once
// What an inexact product by the matrix units tells about a pair.
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

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip {

inline constexpr index_t max_columns = index_t{1} << 18;

/// What a sum of the matrix units tells about a pair: at most one of the two. Neither: ask the canonical product.
struct gram_evidence {
  bool covered, apart;
};

/// Of a row of norm n_i and `cols` elements, which is judged with rows of norms n_j. A zero row's norm puts all its
/// pairs below.
class sum_margin {
 public:
  CASCADA_DEVICE CASCADA_INLINE sum_margin(float threshold, float norm, index_t cols)
      : slope_(static_cast<float>(cols) * (1.75f * 0x1p-22f * norm + 0x1p-125f)),
        offset_(static_cast<float>(cols) * 0x1p-125f * (norm + 1.0f)),
        high_(threshold * norm + slope_),
        low_(threshold * norm - slope_) {}

  /// What a sum tells.
  CASCADA_DEVICE CASCADA_INLINE gram_evidence judge(float sum, float norm_j) const {
    return {sum > __builtin_fmaf(norm_j, high_, offset_), sum < __builtin_fmaf(norm_j, low_, -offset_)};
  }

  /// How far a sum may lie from the canonical product.
  CASCADA_DEVICE CASCADA_INLINE float error(float norm_j) const { return __builtin_fmaf(norm_j, slope_, offset_); }

 private:
  float slope_, offset_, high_, low_;
};

/// Rows of 32, as bits.
struct row_evidence {
  std::uint32_t sure;      // those that cover a column's token
  std::uint32_t possible;  // these, and those that only the canonical product can tell about
};

/// What this lane's 16 sums tell about rows whose norms are norm_of(number). `found(v, covered, sum, norm)` hears of
/// each sum v.
template <class Gpu, class Margin, class Norm, class Found>
CASCADA_DEVICE CASCADA_INLINE row_evidence judge_sums(Gpu& gpu, const Margin& margin, const sums_16& sums,
                                                      const Norm& norm_of, const Found& found) {
  std::uint32_t sure = 0, possible = 0;
#pragma GCC unroll 16
  for (index_t v = 0; v < 16; ++v) {
    const float         norm = norm_of(row_32(gpu.lane(), v));
    const gram_evidence seen = margin.judge(sums[v], norm);
    sure |= static_cast<std::uint32_t>(seen.covered) << v;
    possible |= static_cast<std::uint32_t>(!seen.apart) << v;
    found(v, seen.covered, sums[v], norm);
  }
  return {bits_of_rows(gpu, sure), bits_of_rows(gpu, possible)};
}

/// Those of the 32 rows that cover a column's token, as bits, of those `asked` for; each half of the wave has the sums
/// of half. `covers(row)`, the canonical product's verdict, decides where sums do not.
template <class Gpu, class Verdict>
CASCADA_DEVICE CASCADA_INLINE std::uint32_t rows_that_cover(Gpu& gpu, const row_evidence& seen, std::uint32_t asked,
                                                            const Verdict& covers) {
  std::uint32_t bits = seen.sure & asked;
  for (std::uint32_t left = seen.possible & asked & ~bits; left != 0; left &= left - 1) {
    const index_t row = __builtin_ctz(left);
    bits |= static_cast<std::uint32_t>(covers(row)) << row;
  }
  return bits | gpu.shuffle(bits, gpu.lane() ^ 32);
}

}  // namespace cascada::inline CASCADA_ABI::hip
