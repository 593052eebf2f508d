#pragma once
// Refinement: the far tokens that matter most to a query leave their clusters and are attended exactly.
//
// Per token, the heads of a KV group together, with L_h the log-sum-exp of head h over near field and clusters:
//   1. clusters are ranked by their probability, sum_h exp(logit_hj - L_h);
//   2. the best clusters give their members as candidates, up to budget x multiple;
//   3. the candidates with the largest sum_h exp(logit_hi - L_h), up to the budget, are chosen;
//   4. the softmax is over near tokens, chosen tokens, and clusters whose count drops by the tokens taken out.

#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention_candidates.hpp"
#include "cascada/cpu/attention_pairs.hpp"
#include "cascada/cpu/attention_products.hpp"
#include "cascada/cpu/attention_tile.hpp"
#include "cascada/cpu/attention_workspace.hpp"
#include "cascada/cpu/cluster.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Tokens refined together: enough rows for the tile kernel.
template <cpu_backend B, class E>
CASCADA_INLINE index_t refined_tokens(index_t group) noexcept {
  constexpr index_t rows = score_rows_at_once<B, E>;
  return group < rows ? rows / group : 1;
}

template <cpu_backend B>
CASCADA_INLINE index_t candidate_limit(const attention_options& options, index_t tokens) noexcept {
  const std::int64_t limit = std::int64_t{options.budget} * options.candidates;
  return limit < tokens ? static_cast<index_t>(limit) : tokens;
}

template <cpu_backend B>
CASCADA_INLINE std::int64_t whole_blocks(index_t count) noexcept {
  return (std::int64_t{count} + block_keys<B> - 1) / block_keys<B> * block_keys<B>;
}

template <cpu_backend B, class E>
void reserve(refinement_scratch<B>& scratch, const attention_options& options, index_t tokens, index_t group,
             index_t key_dim, index_t value_dim) {
  const std::int64_t rows = std::int64_t{refined_tokens<B, E>(group)} * group, clusters = whole_blocks<B>(tokens);
  const index_t      limit  = candidate_limit<B>(options, tokens);
  const index_t      budget = options.budget < tokens ? options.budget : tokens;
  scratch.weights.reserve(clusters * rows);
  scratch.shares.reserve(rows);
  scratch.totals.reserve(rows);
  scratch.queries.reserve(std::int64_t{group} * whole_vectors<B>(key_dim));
  scratch.scores.reserve(clusters);
  scratch.logits.reserve(std::int64_t{group} * whole_vectors<B>(limit));
  scratch.candidates.reserve(std::int64_t{limit} + vec<B>::width);
  scratch.picks.reserve(clusters + vec<B>::width);  // lists are written in whole vectors
  scratch.ranked.reserve(clusters + vec<B>::width);
  scratch.ranked_sizes.reserve(clusters + vec<B>::width);
  scratch.chosen.reserve(std::int64_t{budget} * refined_tokens<B, E>(group));
  scratch.chosen_logits.reserve(rows * whole_weights(budget));
  if constexpr (!std::same_as<E, float>)
    scratch.chosen_values.reserve(std::int64_t{whole_weights(budget) / 2} * whole_vectors<B>(value_dim));
}

/// logits [rows, count] of all rows of a tile against one block.
template <cpu_backend B, class E, class Products>
void score_all(Products& products, const query_rows<B, E>& tile, const key_block& block, float* logits,
               std::int64_t stride) noexcept {
  constexpr index_t step = Products::rows;
  for (index_t row = 0; row < tile.rows; row += step)
    products.score(tile, row, tile.rows - row < step ? tile.rows - row : step, block, block.count,
                   logits + row * stride, stride);
  if constexpr (!std::same_as<E, float>) {  // without scale and bias so far
    const auto scale = vec<B>::broadcast(tile.scale);
    for (index_t row = 0; row < tile.rows; ++row, logits += stride)
      for (index_t j = 0; j < block.count; j += vec<B>::width)
        multiply_add(vec<B>::load(logits + j), scale, vec<B>::load(block.bias + j)).store(logits + j);
  }
}

/// The clusters' weights, relative to the maximum over near field and clusters, and the totals. Nothing of the clusters
/// enters the softmax yet: their counts are going to drop. The near field's share shrinks: its sums at once, its values
/// in absorb_clusters.
template <cpu_backend B, class E, class Products>
void weigh_clusters(Products& products, const query_rows<B, E>& tile, const cluster_summaries<B, E>& summaries,
                    std::int64_t stride, refinement_scratch<B>& scratch) noexcept {
  for (index_t first = 0; first < summaries.count(); first += step_keys<B, E>)
    score_all(products, tile, summaries.block(first), scratch.weights.data() + first, stride);
  for (index_t row = 0; row < tile.rows; ++row) {
    float* sums = tile.sums + row * vec<B>::width;
    float  with_clusters[vec<B>::width];
    vec<B>::load(sums).store(with_clusters);
    scratch.shares[row] =
        absorb_scores<B>(scratch.weights.data() + row * stride, summaries.count(), tile.maxima[row], with_clusters);
    (vec<B>::load(sums) * vec<B>::broadcast(scratch.shares[row])).store(sums);
    scratch.totals[row] = reduce_sum(vec<B>::load(with_clusters));
  }
}

/// A token's chosen places and their logits [group, budget], in whole vectors. Returns how many.
template <cpu_backend B, class E>
index_t choose(const query_rows<B, E>& token, const float* weights, std::int64_t stride, const float* totals,
               index_t limit, index_t budget, const kv_head_state<B, E>& head, refinement_scratch<B>& scratch,
               index_t* chosen, float* chosen_logits) noexcept {
  const index_t      count        = list_candidates(token.group, weights, stride, totals, limit, head, scratch);
  const std::int64_t logit_stride = whole_vectors<B>(limit);
  score_candidates(token, head.far_rows, count, logit_stride, scratch);
  index_t picked = count;
  if (count > budget) {
    weigh_candidates(token, totals, count, logit_stride, scratch);
    picked = pick_best(count, budget, head, scratch);
  } else {
    for (index_t i = 0; i < count; ++i) scratch.picks[i] = i;
  }
  for (index_t i = 0; i < picked; ++i) {
    chosen[i] = scratch.candidates[scratch.picks[i]];
    head.far_rows.prefetch_value(chosen[i]);  // absorb_chosen reads it a while later
  }
  for (index_t row = 0; row < token.rows; ++row, chosen_logits += whole_weights(budget))
    for (index_t i = 0; i < picked; ++i) chosen_logits[i] = scratch.logits[row * logit_stride + scratch.picks[i]];
  return picked;
}

/// Clusters lose the chosen tokens, of which those of a cluster lie side by side: its weight falls with its count, its
/// mean stays.
template <cpu_backend B, class E>
void take_out(const index_t* chosen, index_t count, index_t group, const kv_head_state<B, E>& head, float* weights,
              std::int64_t stride) noexcept {
  for (index_t i = 0, next = 0; i < count; i = next) {
    const index_t cluster = head.far_rows.owner(chosen[i]);
    while (next < count && head.far_rows.owner(chosen[next]) == cluster) ++next;
    const auto  size = static_cast<float>(head.summaries.size(cluster));
    const float left = (size - static_cast<float>(next - i)) / size;
    for (index_t row = 0; row < group; ++row) weights[row * stride + cluster] *= left;
  }
}

/// A row's weights enter its sum.
template <cpu_backend B, class E>
void add_to_sum(float* weights, index_t count, float* sums) noexcept {
  if constexpr (std::same_as<E, float>) {
    auto total = vec<B>::load(sums);
    for (index_t j = 0; j < count; j += vec<B>::width) total = total + vec<B>::load(weights + j);
    total.store(sums);
  } else {
    round_row<B>(weights, count, sums);
  }
}

/// The clusters with the weights they have left enter the softmax.
template <cpu_backend B, class E, class Products>
void absorb_clusters(Products& products, const query_rows<B, E>& tile, const cluster_summaries<B, E>& summaries,
                     std::int64_t stride, refinement_scratch<B>& scratch) noexcept {
  const index_t clusters = summaries.count();
  for (index_t row = 0; row < tile.rows; ++row)
    add_to_sum<B, E>(scratch.weights.data() + row * stride, clusters, tile.sums + row * vec<B>::width);
  constexpr index_t step = Products::rows;
  for (index_t row = 0; row < tile.rows; row += step)
    products.add_values(tile, row, tile.rows - row < step ? tile.rows - row : step,
                        scratch.weights.data() + row * stride, stride, summaries.block(0).values, clusters,
                        scratch.shares.data() + row);
}

/// The chosen tokens enter the softmax of their token.
template <cpu_backend B, class E, class Products>
void absorb_chosen(Products& products, const query_rows<B, E>& token, const index_t* chosen, float* logits,
                   std::int64_t stride, index_t count, const cluster_rows<B, E>& rows,
                   refinement_scratch<B>& scratch) noexcept {
  constexpr index_t step = Products::rows;
  if constexpr (!std::same_as<E, float>)
    pack_value_pairs<B>([&](index_t i) { return rows.value(chosen[i]); }, count, rows.value_dim(), token.value_stride,
                        scratch.chosen_values.data());
  for (index_t row = 0; row < token.rows; row += step) {
    const index_t some = token.rows - row < step ? token.rows - row : step;
    float         factors[step];
    for (index_t i = row; i < row + some; ++i) {
      float* sums = token.sums + i * vec<B>::width;
      if constexpr (std::same_as<E, float>)
        factors[i - row] = absorb_scores<B>(logits + i * stride, count, token.maxima[i], sums);
      else
        factors[i - row] = absorb_logits<B>(logits + i * stride, count, token.maxima[i], sums);
    }
    if constexpr (std::same_as<E, float>)
      value_rows(token, row, some, logits + row * stride, stride,
                 placed_values{rows.values(), rows.value_stride(), chosen}, 0, count, factors);
    else
      products.add_values(token, row, some, logits + row * stride, stride, scratch.chosen_values.data(), count,
                          factors);
  }
}

template <cpu_backend B, class E, class Products>
void refine_by(Products&& products, const attention_options& options, const query_rows<B, E>& tile,
               const kv_head_state<B, E>& head, refinement_scratch<B>& own) noexcept {
  const index_t      tokens = tile.rows / tile.group, batch = refined_tokens<B, E>(tile.group), budget = options.budget;
  const index_t      limit  = candidate_limit<B>(options, head.summaries.tokens());
  const std::int64_t stride = whole_blocks<B>(head.summaries.count()), logit_stride = whole_weights(budget);
  for (index_t first = 0; first < tokens; first += batch) {
    const index_t count = tokens - first < batch ? tokens - first : batch;
    const auto    rows  = tile.part(first, count);
    index_t       counts[score_rows_at_once<B, E>];
    weigh_clusters(products, rows, head.summaries, stride, own);
    for (index_t i = 0; i < count; ++i) {
      const std::int64_t row     = std::int64_t{i} * tile.group;
      float*             weights = own.weights.data() + row * stride;
      index_t*           chosen  = own.chosen.data() + std::int64_t{i} * budget;
      counts[i] = choose(rows.part(i, 1), weights, stride, own.totals.data() + row, limit, budget, head, own, chosen,
                         own.chosen_logits.data() + row * logit_stride);
      take_out(chosen, counts[i], tile.group, head, weights, stride);
    }
    absorb_clusters(products, rows, head.summaries, stride, own);
    for (index_t i = 0; i < count; ++i)
      absorb_chosen(products, rows.part(i, 1), own.chosen.data() + std::int64_t{i} * budget,
                    own.chosen_logits.data() + std::int64_t{i} * tile.group * logit_stride, logit_stride, counts[i],
                    head.far_rows, own);
  }
}

/// The far field of a tile whose near field is done. O(T (r + candidates + budget) d) over all tokens.
template <cpu_backend B, class E>
void refine(const attention_options& options, const query_rows<B, E>& tile, const kv_head_state<B, E>& head,
            refinement_scratch<B>& own) noexcept {
  with_products<B, E>([&](auto&& products) { refine_by(products, options, tile, head, own); });
}

}  // namespace cascada::inline CASCADA_ABI::kernel
