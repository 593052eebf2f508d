#pragma once
// The far field of a tile of tokens: leaves, which of them open, and the tokens of those.
//
// Per tile, after the near field:
//   1. logits of all rows against all leaves                                                          score_leaves
//   2. weights relative to the maximum over near field and leaves, and the total of both              weigh_leaves
//   3. token by token: leaves whose weight is more than open_above of the total open                  open_leaves
//   4. weights of open leaves become zero                                                             take_out_leaves
//   5. weights times mean values                                                                      add_leaf_values
//   6. the tokens of open leaves, in the order in which leaves were asked for, so that a row sees a
//      prefix of them                                                                                 attend_opened
//
// A row's result does not depend on which of the tile's later rows are there.

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/leaf_logits.hpp"
#include "cascada/cpu/attention/leaf_weights.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/packing.hpp"
#include "cascada/cpu/attention/products.hpp"
#include "cascada/cpu/attention/walk.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Tokens whose far field is computed together: those that share open leaves, else enough rows for the products.
CASCADA_INLINE constexpr index_t far_tile_tokens(const attention_options& options, index_t group) noexcept {
  constexpr index_t rows = 48;
  if (detail::opens_by_mass(options)) return options.tile;
  return group < rows ? rows / group : 1;
}

template <cpu_backend B>
void reserve(far_field_scratch<B>& scratch, const attention_options& options, index_t tokens, index_t group,
             index_t moments) {
  const std::int64_t tile = far_tile_tokens(options, group) < tokens ? far_tile_tokens(options, group) : tokens;
  const std::int64_t rows = tile * group, leaves = whole_panels<B>(tokens);
  scratch.weights.reserve(rows * leaves);
  scratch.query_squares.reserve(rows * moments);
  scratch.shares.reserve(rows);
  scratch.maxima.reserve(rows);
  scratch.closed.reserve(rows * vec<B>::width);
  if (!detail::opens_by_mass(options)) return;
  scratch.bounds.reserve(rows);
  scratch.near_maxima.reserve(rows);
  scratch.near_sums.reserve(rows * vec<B>::width);
  scratch.open.reserve(leaves / vec<B>::width);
  scratch.leaves.reserve(leaves);
  scratch.leaves_seen.reserve(tile);
  scratch.opened.reserve(tokens);
  scratch.seen.reserve(tile);
}

/// A leaf's logit exceeds the largest of its tokens' by log n + 4 at most, but for its rounding. Beyond this, that may
/// be more.
inline constexpr float largest_sure_logit = 0x1p22f;

/// Turns logits into weights, relative to the maximum over near field and leaves, which enter the sums. The values seen
/// before shrink in add_leaf_values, by shares [rows].
template <cpu_backend B, class E>
void weigh_leaves(const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, bool by_mass, std::int64_t stride,
                  far_field_scratch<B>& scratch) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    float*      logits = scratch.weights.data() + row * stride;
    float*      sums   = tile.sums + row * vec<B>::width;
    float*      closed = scratch.closed.data() + row * vec<B>::width;
    const float now    = largest_logit<B>(logits, leaves.count(), tile.maxima[row]);
    const auto  share  = exp2(vec<B>::broadcast(tile.maxima[row]) - vec<B>::broadcast(now));
    float       lanes[vec<B>::width];
    share.store(lanes);
    scratch.shares[row] = lanes[0];
    if (by_mass) {
      scratch.near_maxima[row] = tile.maxima[row];
      vec<B>::load(sums).store(scratch.near_sums.data() + row * vec<B>::width);
    }
    (vec<B>::load(sums) * share).store(sums);
    if constexpr (std::same_as<E, float>)
      weigh_row<B>(logits, leaves.count(), now, leaves.many(), sums, closed);
    else
      weigh_row_of_pairs<B>(logits, leaves.count(), now, leaves.many(), sums, closed);
    tile.maxima[row] = scratch.maxima[row] = now;
  }
}

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
  scratch.shares[row]                    = 1;
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
  (vec<B>::load(scratch.near_sums.data() + row * vec<B>::width) * vec<B>::broadcast(scratch.shares[row])).store(sums);
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

/// The mean values of the leaves, as their weights say. Meanwhile `next(begin, end)` sees parts of [0, `ahead`).
template <cpu_backend B, class E, class Products, class Next>
void add_leaf_values(Products& products, const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves,
                     std::int64_t stride, const far_field_scratch<B>& scratch, index_t ahead,
                     const Next& next) noexcept {
  constexpr index_t step  = Products::rows;
  const index_t     steps = (tile.rows + step - 1) / step;
  const auto        part  = [&](index_t i) { return static_cast<index_t>(std::int64_t{ahead} * i / steps); };
  for (index_t i = 0, row = 0; i < steps; ++i, row += step) {
    next(part(i), part(i + 1));
    products.add_values(tile, row, tile.rows - row < step ? tile.rows - row : step,
                        scratch.weights.data() + row * stride, stride, leaves.block(0), leaves.count(),
                        scratch.shares.data() + row);
  }
}

/// The tokens of open leaves enter the softmax of the rows that see them.
template <cpu_backend B, class E, class Sequence>
void attend_opened(const Sequence& sequence, index_t kv_head, const query_rows<B, E>& tile, index_t opened,
                   const far_field_scratch<B>& far, attention_scratch<B, E>& scratch) noexcept {
  const index_t*         tokens = far.opened.data();
  const score_adjustment capped = {.cap = sequence.terms.cap};
  attend_heads(
      sequence, tile, 1, opened, 0, [&](index_t, index_t i) { return sequence.key(tokens[i], kv_head); },
      [&](index_t, index_t i) { return sequence.value(tokens[i], kv_head); },
      [&](key_block& block, index_t) {
        block.seen_by = far.seen.data();
        block.cap_by(capped);
      },
      scratch);
}

/// The share of a row's softmax, `sum` in all, that weights `closed` relative to 2^drop have; times 2^32, so that sums
/// of shares do not depend on how tiles are shared out. A NaN row, or one that sees nothing, has none.
template <cpu_backend B>
CASCADA_INLINE std::int64_t closed_share(float closed, float drop, float sum) noexcept {
  const double share = static_cast<double>(closed) * std::exp2(static_cast<double>(drop)) / static_cast<double>(sum);
  constexpr double limit = 1.001;  // sums are rounded
  return detail::from_zero_to(share, limit) ? static_cast<std::int64_t>(share * 0x1p32) : 0;
}

/// Counts what a tile read.
template <cpu_backend B, class E>
void count_far_field(const query_rows<B, E>& tile, index_t opened, bool by_mass, far_field_scratch<B>& far) noexcept {
  const index_t tokens = tile.rows / tile.group;
  for (index_t row = 0; row < tile.rows; ++row)
    far.counts.mass += closed_share<B>(far.closed_of(row), far.maxima[row] - tile.maxima[row], tile.sum(row));
  for (index_t i = 0; by_mass && i < tokens; ++i) far.counts.opened += far.seen[i];
  far.counts.computed += std::int64_t{opened} * tokens;
}

/// The far field of a tile whose near field is done. O(tokens x (leaves + opened) x d). Of rows that are no tokens',
/// `closed` [rows] gets the weights of closed leaves of several tokens; of the others, null, they are counted.
template <cpu_backend B, class E, class Sequence>
void attend_far_tile(const Sequence& sequence, const attention_options& options, index_t kv_head, index_t position,
                     const query_rows<B, E>& tile, kv_head_state<B, E>& head, far_field_scratch<B>& far,
                     attention_scratch<B, E>& scratch, float* closed) noexcept {
  const auto&        leaves  = head.leaves;
  const bool         by_mass = detail::opens_by_mass(options);
  const std::int64_t stride  = whole_panels<B>(leaves.count());
  index_t            opened  = 0;
  with_products<B, E>([&](auto&& products) {
    if (sequence.terms.cap > 0)
      score_capped_leaves(products, tile, leaves, sequence.terms.cap, stride, far);
    else
      score_leaves(products, tile, leaves, stride, far);
    weigh_leaves(tile, leaves, by_mass, stride, far);
    if (by_mass) {
      opened = open_leaves(tile, leaves, options.open_above, head.asked.before(position), stride, far);
      head.asked.remember(position, tile.rows / tile.group, far.leaves.data(), far.leaves_seen.data());
    }
    if (opened > 0) take_out_leaves(tile, leaves, stride, far);
    // The rows of opened tokens lie apart: they are on their way before they are wanted.
    add_leaf_values(products, tile, leaves, stride, far, opened, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        prefetch_row(sequence.key(far.opened[i], kv_head), sequence.q.dim);
        prefetch_row(sequence.value(far.opened[i], kv_head), sequence.kv.value_dim());
      }
    });
  });
  if (opened > 0) attend_opened(sequence, kv_head, tile, opened, far, scratch);
  if (!closed) return count_far_field(tile, opened, by_mass, far);
  for (index_t row = 0; row < tile.rows; ++row) closed[row] = far.closed_of(row);
}

/// The far field of tokens from `position` on.
template <cpu_backend B, class E, class Sequence>
void attend_leaves(const Sequence& sequence, const attention_options& options, index_t kv_head, index_t position,
                   const query_rows<B, E>& tile, kv_head_state<B, E>& head, far_field_scratch<B>& far,
                   attention_scratch<B, E>& scratch, float* closed = nullptr) noexcept {
  if (head.leaves.count() == 0) return;
  const index_t tokens = tile.rows / tile.group, step = far_tile_tokens(options, tile.group);
  const bool    by_mass = detail::opens_by_mass(options);
  for (index_t first = 0, count = 0; first < tokens; first += count) {
    const index_t room = by_mass ? step - (position + first) % step : step;  // up to the tile's end
    count              = tokens - first < room ? tokens - first : room;
    attend_far_tile(sequence, options, kv_head, position + first, tile.part(first, count), head, far, scratch,
                    closed ? closed + first * tile.group : nullptr);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
