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

#include <cmath>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/leaf_logits.hpp"
#include "cascada/cpu/attention/leaf_weights.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/open_leaves.hpp"
#include "cascada/cpu/attention/products.hpp"
#include "cascada/cpu/attention/walk.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Tokens whose far field is computed together: those that share open leaves, else enough rows for the products.
CASCADA_INLINE constexpr index_t far_tile_tokens(const attention_options& options, index_t group) noexcept {
  constexpr index_t rows = 48;  // whose weights of 4096 leaves, 768 KiB, stay in an L2 cache of 1 MiB
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
  scratch.factors.reserve(rows);
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

/// Turns logits into weights, relative to the maximum over near field and leaves, which enter the sums. The values seen
/// before shrink in add_leaf_values, by factors [rows].
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
    scratch.factors[row] = lanes[0];
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

/// A row's weights become those of integers, and what pairs of these exceed is taken off its values beforehand.
template <cpu_backend B, class E>
CASCADA_INLINE void scale_row(const query_rows<B, E>& tile, index_t row, const leaf_summaries<B, E>& leaves,
                              float* weights, float& factor) noexcept {
  if constexpr (std::same_as<E, float>) {
    scale_weights<B>(weights, leaves.count(), leaves.value_scales());
  } else {
    const auto excess =
        vec<B>::broadcast(-excess_of_fours * scale_weights_of_pairs<B>(weights, leaves.count(), leaves.value_scales()));
    float*     values = tile.values_of(row);
    const auto before = vec<B>::broadcast(factor);
    for (index_t c = 0; c < tile.value_stride; c += vec<B>::width)
      multiply_add(vec<B>::load(values + c), before, excess).store(values + c);
    factor = 1;
  }
}

/// The mean values of the leaves, as their weights say. Meanwhile `next(begin, end)` sees parts of [0, `ahead`).
template <cpu_backend B, class E, class Products, class Next>
void add_leaf_values(Products& products, const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves,
                     std::int64_t stride, far_field_scratch<B>& scratch, index_t ahead, const Next& next) noexcept {
  constexpr index_t step  = Products::rows;
  const index_t     steps = (tile.rows + step - 1) / step;
  const auto        part  = [&](index_t i) { return static_cast<index_t>(std::int64_t{ahead} * i / steps); };
  const bool        bytes = leaves.shape().kept == summary_type::bytes;
  for (index_t i = 0, row = 0; i < steps; ++i, row += step) {
    next(part(i), part(i + 1));
    const index_t rows = tile.rows - row < step ? tile.rows - row : step;
    for (index_t r = row; bytes && r < row + rows; ++r)
      scale_row(tile, r, leaves, scratch.weights.data() + r * stride, scratch.factors[r]);
    products.add_values(tile, row, rows, scratch.weights.data() + row * stride, stride, leaves.block(0), leaves.count(),
                        scratch.factors.data() + row);
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
  with_products<B, E>(leaves.shape().kept, [&](auto&& products) {
    if (sequence.terms.cap > 0)
      score_capped_leaves(products, tile, leaves, sequence.terms.cap, stride, far);
    else
      score_leaves(products, tile, leaves, stride, far);
    weigh_leaves(tile, leaves, by_mass, stride, far);
    if (by_mass) {
      opened = open_leaves(tile, leaves, options.open_above, head.remembered.before(position), stride, far);
      head.remembered.remember(position, tile.rows / tile.group, far.leaves.data(), far.leaves_seen.data());
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
