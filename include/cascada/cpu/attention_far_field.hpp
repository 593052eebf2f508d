#pragma once
// The far field of a tile of tokens: leaves, which of them open, and the tokens of those.
//
// Per tile, after the near field:
//   1. logits of all rows against all leaves                                                          score_leaves
//   2. weights relative to the maximum over near field and leaves, and the total of both              weigh_leaves
//   3. token by token: leaves whose weight is more than open_above of the total open                  open_leaves
//   4. weights of open leaves become zero, the others enter the softmax                               absorb_leaves
//   5. the tokens of open leaves, in the order in which leaves were asked for, so that a row sees a
//      prefix of them                                                                                 attend_opened
//
// A row's result does not depend on which of the tile's later rows are there.

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention_operands.hpp"
#include "cascada/cpu/attention_pairs.hpp"
#include "cascada/cpu/attention_products.hpp"
#include "cascada/cpu/attention_tile.hpp"
#include "cascada/cpu/attention_workspace.hpp"
#include "cascada/cpu/leaves.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::kernel {

template <cpu_backend B>
CASCADA_INLINE std::int64_t whole_blocks(index_t count) noexcept {
  return (std::int64_t{count} + block_keys<B> - 1) / block_keys<B> * block_keys<B>;
}

/// Tokens whose far field is computed together: those that share open leaves, else enough rows for the products.
CASCADA_INLINE constexpr index_t far_tile_tokens(const attention_options& options, index_t group) noexcept {
  constexpr index_t rows = 48;
  if (options.open == opening::by_mass) return options.tile;
  return group < rows ? rows / group : 1;
}

template <cpu_backend B>
void reserve(far_field_scratch<B>& scratch, const attention_options& options, index_t tokens, index_t group,
             index_t moments) {
  const std::int64_t tile = far_tile_tokens(options, group) < tokens ? far_tile_tokens(options, group) : tokens;
  const std::int64_t rows = tile * group, leaves = whole_blocks<B>(tokens);
  scratch.weights.reserve(rows * leaves);
  scratch.spreads.reserve(rows * moments);
  scratch.shares.reserve(rows);
  scratch.totals.reserve(rows);
  scratch.closed.reserve(rows);
  if (options.open != opening::by_mass) return;
  scratch.asked.reserve(leaves / vec<B>::width);
  scratch.open.reserve(leaves / vec<B>::width);
  scratch.leaves.reserve(leaves);
  scratch.leaves_seen.reserve(tile);
  scratch.opened.reserve(tokens);
  scratch.seen.reserve(tile);
}

/// spreads [rows, moments]: 1/2 scale^2 |q_g|^2, times log2 e.
template <cpu_backend B, class E>
void measure_queries(const query_rows<B, E>& tile, const leaf_shape& shape, float* spreads) noexcept {
  constexpr float largest = std::numeric_limits<float>::max();
  for (index_t row = 0; row < tile.rows; ++row) {
    const float* query = tile.queries + std::int64_t{row} * tile.key_lanes;
    for (index_t g = 0; g < shape.moments; ++g) {
      const auto edge = [&](index_t i) {
        return static_cast<index_t>(std::int64_t{i} * shape.key_dim / shape.moments);
      };
      float square = 0;
      for (index_t k = edge(g); k < edge(g + 1); ++k) {
        const float element = element_of<E>(query, k);
        square += element * element;
      }
      if constexpr (!std::same_as<E, float>) square *= tile.scale * tile.scale;
      square *= static_cast<float>(0.5 / std::numbers::log2e);
      *spreads++ = square < largest ? square : largest;
    }
  }
}

/// log2 of the count + min(4, correction), of a vector of leaves.
template <cpu_backend B, class E>
CASCADA_INLINE vec<B> leaf_bias(const leaf_summaries<B, E>& leaves, const float* spreads, const float* log_counts,
                                index_t first) noexcept {
  const auto log_count = vec<B>::load(log_counts);
  if (leaves.shape().moments == 0) return log_count;
  auto correction = vec<B>::broadcast(spreads[0]) * leaves.variances(0, first);
  for (index_t g = 1; g < leaves.shape().moments; ++g)
    correction = multiply_add(vec<B>::broadcast(spreads[g]), leaves.variances(g, first), correction);
  return log_count + min(correction, vec<B>::broadcast(static_cast<float>(largest_correction * std::numbers::log2e)));
}

/// weights [rows, stride] = logits of all rows against all leaves.
template <cpu_backend B, class E, class Products>
void score_leaves(Products& products, const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves,
                  std::int64_t stride, far_field_scratch<B>& scratch) noexcept {
  constexpr index_t step = Products::rows, width = vec<B>::width;
  const index_t     moments = leaves.shape().moments;
  measure_queries(tile, leaves.shape(), scratch.spreads.data());
  for (index_t first = 0; first < leaves.count(); first += step_keys<B, E>) {
    const key_block block = leaves.block(first);
    for (index_t row = 0; row < tile.rows; row += step) {
      const index_t rows   = tile.rows - row < step ? tile.rows - row : step;
      float*        logits = scratch.weights.data() + row * stride + first;
      const auto    bias   = [&](index_t i, index_t j) {
        return leaf_bias(leaves, scratch.spreads.data() + (row + i) * moments, block.bias + j, first + j);
      };
      if constexpr (std::same_as<E, float>) {  // products add up on what is there
        const float* in_place[step];
        for (index_t i = 0; i < rows; ++i) {
          in_place[i] = logits + i * stride;
          for (index_t j = 0; j < block.count; j += width) bias(i, j).store(logits + i * stride + j);
        }
        score_biased_rows(tile, row, rows, block, block.count, in_place, logits, stride);
      } else {
        products.score(tile, row, rows, block, block.count, logits, stride);
        const auto scale = vec<B>::broadcast(tile.scale);
        for (index_t i = 0; i < rows; ++i)
          for (index_t j = 0; j < block.count; j += width) {
            float* at = logits + i * stride + j;
            multiply_add(vec<B>::load(at), scale, bias(i, j)).store(at);
          }
      }
    }
  }
}

/// Turns logits into weights, relative to the maximum over near field and leaves, and adds them up. Nothing of the
/// leaves enters the softmax yet: some will open. The near field's share shrinks: its sums at once, its values in
/// absorb_leaves.
template <cpu_backend B, class E>
void weigh_leaves(const query_rows<B, E>& tile, index_t leaves, std::int64_t stride,
                  far_field_scratch<B>& scratch) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    float* sums = tile.sums + row * vec<B>::width;
    float  with_leaves[vec<B>::width];
    vec<B>::load(sums).store(with_leaves);
    scratch.shares[row] =
        absorb_scores<B>(scratch.weights.data() + row * stride, leaves, tile.maxima[row], with_leaves);
    (vec<B>::load(sums) * vec<B>::broadcast(scratch.shares[row])).store(sums);
    scratch.totals[row] = reduce_sum(vec<B>::load(with_leaves));
  }
}

/// Opens leaves: of token i, seen[i] tokens of the list `opened` and leaves_seen[i] of the leaves. Returns the tokens.
template <cpu_backend B, class E>
index_t open_leaves(const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, float open_above,
                    std::int64_t stride, far_field_scratch<B>& scratch) noexcept {
  constexpr index_t width   = vec<B>::width;
  const index_t     vectors = whole_vectors<B>(leaves.count()) / width;
  index_t           open = 0, opened = 0;
  for (index_t v = 0; v < vectors; ++v) scratch.open[v] = 0;
  for (index_t i = 0; i < tile.rows / tile.group; ++i) {
    for (index_t v = 0; v < vectors; ++v) scratch.asked[v] = 0;
    for (index_t row = i * tile.group; row < (i + 1) * tile.group; ++row) {
      const auto   bound   = vec<B>::broadcast(open_above * scratch.totals[row]);
      const float* weights = scratch.weights.data() + row * stride;
      for (index_t v = 0; v < vectors; ++v) scratch.asked[v] |= bits_less(bound, vec<B>::load(weights + v * width));
    }
    for (index_t v = 0; v < vectors; ++v) {
      std::uint32_t fresh = scratch.asked[v] & ~scratch.open[v];
      if (fresh == 0) continue;
      fresh &= bits_less(vec<B>::zero(), vec<B>::load(leaves.many() + v * width));
      scratch.open[v] |= fresh;
      for (; fresh != 0; fresh &= fresh - 1) {
        const index_t leaf     = v * width + static_cast<index_t>(__builtin_ctz(fresh));
        scratch.leaves[open++] = leaf;
        opened += leaves.list(leaf, scratch.opened.data() + opened);
      }
    }
    scratch.leaves_seen[i] = open, scratch.seen[i] = opened;
  }
  return opened;
}

/// The leaves that are closed for a row enter its softmax. closed [rows]: weights of those of several tokens.
template <cpu_backend B, class E, class Products>
void absorb_leaves(Products& products, const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, bool by_mass,
                   std::int64_t stride, far_field_scratch<B>& scratch) noexcept {
  constexpr index_t step = Products::rows, width = vec<B>::width;
  const index_t     count = leaves.count();
  for (index_t row = 0; row < tile.rows; ++row) {
    float*        weights = scratch.weights.data() + row * stride;
    const index_t open    = by_mass ? scratch.leaves_seen[row / tile.group] : 0;
    for (index_t i = 0; i < open; ++i) weights[scratch.leaves[i]] = 0;
    auto   closed = vec<B>::zero();
    float* sums   = tile.sums + row * width;
    auto   total  = vec<B>::load(sums);
    for (index_t j = 0; j < count; j += width) {
      const auto weight = vec<B>::load(weights + j);
      closed            = multiply_add(weight, vec<B>::load(leaves.many() + j), closed);
      total             = total + weight;
    }
    scratch.closed[row] = reduce_sum(closed);
    scratch.totals[row] = tile.maxima[row];  // what `closed` is relative to
    if constexpr (std::same_as<E, float>)
      total.store(sums);
    else
      round_row<B>(weights, count, sums);
  }
  for (index_t row = 0; row < tile.rows; row += step)
    products.add_values(tile, row, tile.rows - row < step ? tile.rows - row : step,
                        scratch.weights.data() + row * stride, stride, leaves.block(0).values, count,
                        scratch.shares.data() + row);
}

/// The tokens of open leaves enter the softmax of the rows that see them.
template <cpu_backend B, class E, class Sequence>
void attend_opened(const Sequence& sequence, index_t kv_head, const query_rows<B, E>& tile, index_t opened,
                   const far_field_scratch<B>& far, attention_scratch<B, E>& scratch) noexcept {
  const index_t* tokens = far.opened.data();
  attend_rows(
      sequence, tile, opened, 0, [&](index_t i) { return sequence.key(tokens[i], kv_head); },
      [&](index_t i) { return sequence.value(tokens[i], kv_head); },
      [&](key_block& block, index_t) { block.seen_by = far.seen.data(); }, scratch);
}

/// The share of a row's softmax, `sum` in all, that weights `closed` relative to 2^drop have; times 2^32, so that sums
/// of shares do not depend on how tiles are shared out. A NaN row, or one that sees nothing, has none.
template <cpu_backend B>
CASCADA_INLINE std::int64_t closed_share(float closed, float drop, float sum) noexcept {
  const double share = static_cast<double>(closed) * std::exp2(static_cast<double>(drop)) / static_cast<double>(sum);
  // By bits: -ffast-math takes NaN for any number. Those of numbers below 0, infinite or NaN are larger.
  const bool within = std::bit_cast<std::uint64_t>(share) <= std::bit_cast<std::uint64_t>(1.001);
  return within ? static_cast<std::int64_t>(share * 0x1p32) : 0;
}

/// Counts what a tile read.
template <cpu_backend B, class E>
void count_far_field(const query_rows<B, E>& tile, index_t opened, bool by_mass, far_field_scratch<B>& far) noexcept {
  const index_t tokens = tile.rows / tile.group;
  for (index_t row = 0; row < tile.rows; ++row)
    far.counts.mass += closed_share<B>(far.closed[row], far.totals[row] - tile.maxima[row], tile.sum(row));
  for (index_t i = 0; by_mass && i < tokens; ++i) far.counts.opened += far.seen[i];
  far.counts.computed += std::int64_t{opened} * tokens;
}

/// The far field of a tile whose near field is done. O(tokens x (leaves + opened) x d). Of rows that are no tokens',
/// `closed` [rows] gets the weights of closed leaves of several tokens; of the others, null, they are counted.
template <cpu_backend B, class E, class Sequence>
void attend_far_tile(const Sequence& sequence, const attention_options& options, index_t kv_head,
                     const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, far_field_scratch<B>& far,
                     attention_scratch<B, E>& scratch, float* closed) noexcept {
  const bool         by_mass = options.open == opening::by_mass;
  const std::int64_t stride  = whole_blocks<B>(leaves.count());
  index_t            opened  = 0;
  with_products<B, E>([&](auto&& products) {
    score_leaves(products, tile, leaves, stride, far);
    weigh_leaves(tile, leaves.count(), stride, far);
    if (by_mass) opened = open_leaves(tile, leaves, options.open_above, stride, far);
    absorb_leaves(products, tile, leaves, by_mass, stride, far);
  });
  if (opened > 0) attend_opened(sequence, kv_head, tile, opened, far, scratch);
  if (!closed) return count_far_field(tile, opened, by_mass, far);
  for (index_t row = 0; row < tile.rows; ++row) closed[row] = far.closed[row];
}

/// The far field of tokens that begin at a tile's edge.
template <cpu_backend B, class E, class Sequence>
void attend_leaves(const Sequence& sequence, const attention_options& options, index_t kv_head,
                   const query_rows<B, E>& tile, const leaf_summaries<B, E>& leaves, far_field_scratch<B>& far,
                   attention_scratch<B, E>& scratch, float* closed = nullptr) noexcept {
  if (leaves.count() == 0) return;
  const index_t tokens = tile.rows / tile.group, step = far_tile_tokens(options, tile.group);
  for (index_t first = 0; first < tokens; first += step)
    attend_far_tile(sequence, options, kv_head, tile.part(first, tokens - first < step ? tokens - first : step), leaves,
                    far, scratch, closed ? closed + first * tile.group : nullptr);
}

}  // namespace cascada::kernel
