#pragma once
// Keys of one KV head, compared with anchors of chains: by canonical products, or 32 by 32 on the matrix units.

#include <cstdint>

#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/attention/token_rows.hpp"
#include "cascada/hip/base/canonical.hpp"
#include "cascada/hip/base/covering_row.hpp"
#include "cascada/hip/base/margin.hpp"
#include "cascada/verdict.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// All verdicts are at leaf_threshold.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct compared_keys {
  token_rows<Scalar, Place> rows;
  index_t                   head;
  float                     threshold;

  CASCADA_DEVICE CASCADA_INLINE const Scalar* row(const chain_anchor& key) const { return rows.row(key.token, head); }

  CASCADA_DEVICE CASCADA_INLINE float product(const chain_anchor& a, const chain_anchor& b) const {
    return canonical_product(row(a), row(b), rows.dim);
  }
  CASCADA_DEVICE CASCADA_INLINE bool covers(const chain_anchor& key, const chain_anchor& other, float product) const {
    return detail::covers(product, threshold * key.norm, other.norm);
  }

  /// A key joins an anchor that covers it, if that is nearer than `best`.
  CASCADA_DEVICE CASCADA_INLINE void join(const chain_anchor& key, const chain_anchor& anchor,
                                          covering_row& best) const {
    const covering_row found = {anchor.place, product(key, anchor), anchor.norm};
    if (covers(key, anchor, found.product) && found.nearer_than(best)) best = found;
  }

  /// By a wave, which has keys as judge() says: they join the nearest of 32 anchors, of those `asked` for, where
  /// `other` is anchor lane % 32. Each half of the wave meets half of them; join_halves() then tells both.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet(Gpu& gpu, const chain_anchor& key, const chain_anchor* anchors,
                                          const chain_anchor& other, std::uint32_t asked, covering_row& best) const {
    const auto seen = judge(gpu, key, other, [&](index_t j) { return gpu.shuffle(other.norm, j); });
    for (std::uint32_t left = seen.possible & asked; left != 0; left &= left - 1)
      join(key, anchors[__builtin_ctz(left)], best);
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void join_halves(Gpu& gpu, covering_row& best) {
    const covering_row other = {
        static_cast<index_t>(gpu.shuffle(static_cast<std::uint32_t>(best.place), gpu.lane() ^ 32)),
        gpu.shuffle(best.product, gpu.lane() ^ 32), gpu.shuffle(best.norm, gpu.lane() ^ 32)};
    if (other.nearer_than(best)) best = other;
  }

  /// By a wave: lane l has key l % 32 of 32 that may be covered, and of 32 others, whose norms are norm_of(number).
  /// What it learns is about half of these: those of row_32.
  template <class Gpu, class Norm>
  CASCADA_DEVICE CASCADA_INLINE row_evidence judge(Gpu& gpu, const chain_anchor& key, const chain_anchor& other,
                                                   const Norm& norm_of) const {
    const sums_16 sums = multiply(gpu, row(other), row(key));
    return judge_sums(gpu, sum_margin(threshold, key.norm, rows.dim), sums, norm_of,
                      [](index_t, bool, float, float) {});
  }

 private:
  /// Sums of 32 rows and 32 columns.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 multiply(Gpu& gpu, const Scalar* row, const Scalar* column) const {
    constexpr index_t steps = 4;
    sums_16           sums  = {};
    for (index_t first = 0; first < rows.dim; first += 16 * steps) {
      vector8 a[steps], b[steps];
#pragma GCC unroll 4
      for (index_t s = 0; s < steps; ++s) {
        const index_t k      = first + 16 * s + gpu.lane() / 32 * 8;
        const bool    within = k < rows.dim;  // beyond, any elements, times zero
        a[s] = load_8(row + (within ? k : 0)), b[s] = load_8(column + (within ? k : 0));
        if (!within) a[s] = vector8{};
      }
#pragma GCC unroll 4
      for (index_t s = 0; s < steps; ++s) {
        sums = gpu.template mfma_32x32x8<Scalar>(low(a[s]), low(b[s]), sums);
        sums = gpu.template mfma_32x32x8<Scalar>(high(a[s]), high(b[s]), sums);
      }
    }
    return sums;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
