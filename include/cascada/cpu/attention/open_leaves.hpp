#pragma once
// Opening by mass: which leaves a tile asks for, the list of their tokens, and rows without their weights.

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/leaf_weights.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/attention/scratch.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// A leaf's logit exceeds the largest of its tokens' by log n + 4 at most, but for its rounding. Beyond this, that may
/// be more.
inline constexpr float largest_sure_logit = 0x1p22f;

/// Leaves from `first` that token i asks for, as bits.
template <cpu_backend B, class E>
CASCADA_INLINE std::uint32_t asked_for(const query_rows<B, E>& tile, index_t i, index_t first, std::int64_t stride,
                                       const far_field_scratch<B>& scratch) noexcept {
  std::uint32_t asked = 0;
  for (index_t row = i * tile.group; row < (i + 1) * tile.group; ++row) {
    const float* weights = scratch.weights.data() + row * stride;
    if constexpr (std::same_as<E, float>)
      asked |= heavier<B>(weights, first, scratch.bounds[row]);
    else
      asked |= heavier_of_pairs<B>(weights, first, scratch.bounds[row]);
  }
  return asked;
}

/// Opens leaves: of token i, seen[i] tokens of the list `opened` and leaves_seen[i] of the leaves. Those of `before`
/// are open already: earlier tokens of the tile asked for them. Returns the tokens.
template <cpu_backend B, class E>
index_t open_leaves(const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, float open_above,
                    std::span<const index_t> before, std::int64_t stride, far_field_scratch<B>& scratch) noexcept {
  constexpr index_t at_once = leaves_at_once<B, E>;
  index_t           open = 0, opened = 0;
  for (index_t j = 0; j < leaves.count(); j += at_once) scratch.open[j / at_once] = 0;
  for (const index_t leaf : before) {
    scratch.open[leaf / at_once] |= std::uint32_t{1} << (leaf % at_once);
    scratch.leaves[open++] = leaf;
  }
  opened = leaves.list(scratch.leaves.data(), open, scratch.opened.data());
  for (index_t row = 0; row < tile.rows; ++row) {
    // No weight exceeds these bits, as a float or as a half of them: a NaN total asks for nothing.
    constexpr auto all_bits = ~std::uint32_t{0};
    const float    total    = tile.sum(row);
    scratch.bounds[row]     = detail::is_finite(total) ? open_above * total : std::bit_cast<float>(all_bits);
  }
  for (index_t i = 0; i < tile.rows / tile.group; ++i) {
    const index_t listed = open;
    for (index_t j = 0; j < leaves.count(); j += at_once) {
      std::uint32_t fresh = asked_for(tile, i, j, stride, scratch) & ~scratch.open[j / at_once];
      if (fresh == 0) continue;
      scratch.open[j / at_once] |= fresh;
      for (; fresh != 0; fresh &= fresh - 1) {
        const index_t leaf = j + __builtin_ctz(fresh);
        if (leaf >= leaves.count() || leaves.size(leaf) == 1) continue;
        scratch.leaves[open++] = leaf;
      }
    }
    opened += leaves.list(scratch.leaves.data() + listed, open - listed, scratch.opened.data() + opened);
    scratch.leaves_seen[i] = open, scratch.seen[i] = opened;
  }
  return opened;
}

/// A row whose tokens may weigh nothing beside their leaf, by its rounding: it goes on from the near field.
template <cpu_backend B, class E>
void forget_leaves(const query_rows<B, E>& tile, index_t row, index_t leaves, std::int64_t stride,
                   far_field_scratch<B>& scratch) noexcept {
  tile.maxima[row] = scratch.maxima[row] = scratch.near_maxima[row];
  scratch.factors[row]                   = 1;
  vec<B>::load(scratch.near_sums.data() + row * vec<B>::width).store(tile.sums + row * vec<B>::width);
  vec<B>::zero().store(scratch.closed.data() + row * vec<B>::width);
  float* weights = scratch.weights.data() + row * stride;
  for (index_t j = 0; j < whole_panels<B>(leaves) / elements_per_lane<E>; j += vec<B>::width)
    vec<B>::zero().store(weights + j);
}

/// A row's sums from the near field and the weights that are left.
template <cpu_backend B, class E>
void add_up_again(const query_rows<B, E>& tile, index_t row, const leaf_summaries<B, E>& leaves, std::int64_t stride,
                  far_field_scratch<B>& scratch) noexcept {
  float* sums = tile.sums + row * vec<B>::width;
  (vec<B>::load(scratch.near_sums.data() + row * vec<B>::width) * vec<B>::broadcast(scratch.factors[row])).store(sums);
  add_weights_of_leaves<B, E>(scratch.weights.data() + row * stride, leaves.count(), leaves.many(), sums,
                              scratch.closed.data() + row * vec<B>::width);
}

/// Leaves that are open for a row leave its softmax.
template <cpu_backend B, class E>
void take_out_leaves(const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, std::int64_t stride,
                     far_field_scratch<B>& scratch) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    const float taken = take_out<B, E>(scratch.weights.data() + row * stride, scratch.leaves.data(),
                                       scratch.leaves_seen[row / tile.group]);
    tile.sums[row * vec<B>::width] -= taken;
    scratch.closed[row * vec<B>::width] -= taken;
    const float left = tile.sum(row);
    if (!detail::is_finite(left) || left >= taken) continue;
    // What is left is small beside what was taken, and its digits with it: below 2^-20, less than 4 bits of 24.
    if (std::fabs(tile.maxima[row]) > largest_sure_logit && left < 0x1p-20f * taken)
      forget_leaves(tile, row, leaves.count(), stride, scratch);
    else
      add_up_again(tile, row, leaves, stride, scratch);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
