#pragma once
// Attention on the compressed problem: representatives, or the means of their clusters, instead of all tokens.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/copy_results.hpp"
#include "cascada/cpu/attention/count_older.hpp"
#include "cascada/cpu/attention/extend_leaves.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/attention/walk.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/cpu/attention/write_results.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Attends to all clusters, as leaves without a bound. O(rows r d).
template <cpu_backend B, class E, class Sequence>
void attend_clusters(const Sequence& sequence, const query_rows<B, E>& tile, const leaf_summaries<B, E>& clusters,
                     attention_scratch<B, E>& scratch) noexcept {
  const score_adjustment capped = {.cap = sequence.terms.cap};
  for (index_t first = 0; first < clusters.count(); first += block_keys<B, E>) {
    key_block block = clusters.block(first);
    block.cap_by(capped);
    attend_block(tile, block, scratch.scores.data());
  }
}

/// Representatives [first, first + count) attend to representatives' own rows. O(count r d).
template <cpu_backend B, class E, class Sequence>
query_rows<B, E> attend_own_rows(const Sequence& sequence, const attention_options& options, index_t kv_head,
                                 index_t first, index_t count, const clusters& lists,
                                 attention_scratch<B, E>& scratch) noexcept {
  const auto rep  = [&](index_t i) { return lists.representative(i); };
  const auto tile = load_queries(sequence, kv_head, 1, count, [&](index_t i) { return rep(first + i); }, scratch.tile);
  const score_adjustment capped = {.cap = sequence.terms.cap};
  attend_rows(
      sequence, tile, options.causal ? first + count : lists.count(), options.causal ? first + 1 : lists.count(),
      [&](index_t i) { return sequence.key(rep(i), kv_head); },
      [&](index_t i) { return sequence.value(rep(i), kv_head); },
      [&](key_block& block, index_t from) {
        block.cap_by(capped);
        if (!options.weighted) return;
        block.bias_stride = block_keys<B, E>;
        count_older<B>(lists, first, count, from, block.count, scratch.bias.data(), block.bias_stride);
        block.bias = scratch.bias.data();
      },
      scratch);
  return tile;
}

/// Clusters [first, first + count) attend with their mean query to all clusters' means. O(T d + count r d).
template <cpu_backend B, class E, class Sequence>
query_rows<B, E> attend_means(const Sequence& sequence, index_t kv_head, index_t first, index_t count,
                              const clusters& lists, const leaf_summaries<B, E>& means,
                              attention_scratch<B, E>& scratch) noexcept {
  const auto tile = begin_queries(sequence, count, scratch.tile);
  for (index_t i = 0; i < count; ++i) {
    const index_t begin = lists.begin(first + i), end = lists.end(first + i);
    mean_queries(sequence, kv_head, lists.members.data() + begin, end - begin, tile.part(i, 1));
  }
  see_sink_logits(sequence, kv_head, tile);
  attend_clusters(sequence, tile, means, scratch);
  return tile;
}

/// The compressed problem: r x r, or all queries against the clusters.
template <cpu_backend B, class E, class Sequence>
void attend_representatives(const Sequence& sequence, const attention_options& options, kv_head_state<B, E>* heads,
                            attention_workspace<B, E>& space, const B& where, attention_report& report) {
  const auto kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const bool everyone = options.queries == query_set::all, means = detail::has_cluster_means(options);
  if (means)
    for_each_task(where, space.crew(), kv_heads, [&](index_t, std::int64_t task) {
      const auto kv_head = static_cast<index_t>(task);
      extend_leaves(sequence, leaf_formation::by_order, kv_head, sequence.tokens, space.scratch_of(kv_head),
                    heads[kv_head].leaves);
    });
  // r differs from head to head, and is T at most.
  const tile_tasks tasks = {.from     = 0,
                            .to       = sequence.tokens,
                            .step     = task_tokens<B, E>(sequence, sequence.tokens, space.crew()),
                            .kv_heads = sequence.kv.kv_heads()};
  for_each_task(where, space.crew(), tasks.count(), [&](index_t worker, std::int64_t task) {
    auto&           scratch = space.workers.data()[worker];
    const index_t   kv_head = tasks.kv_head(task), first = tasks.begin(task);
    const clusters& lists  = space.scratch_of(kv_head).lists;
    const auto&     leaves = heads[kv_head].leaves;
    const index_t   count  = std::min(tasks.end(task), everyone ? sequence.tokens : lists.count()) - first;
    if (count <= 0) return;
    if (everyone) {
      const auto token = [&](index_t i) { return first + i; };
      const auto tile  = load_queries(sequence, kv_head, 1, count, token, scratch.tile);
      attend_clusters(sequence, tile, leaves, scratch);
      write_results(sequence, kv_head, tile, token);
    } else {
      const auto tile = means ? attend_means(sequence, kv_head, first, count, lists, leaves, scratch)
                              : attend_own_rows(sequence, options, kv_head, first, count, lists, scratch);
      write_results(sequence, kv_head, tile, [&](index_t i) { return lists.representative(first + i); });
    }
  });
  if (!everyone) copy_results(sequence, space, where);
  for (index_t h = 0; h < kv_heads; ++h) {
    const std::int64_t T = sequence.tokens, r = space.scratch_of(h).lists.count();
    report.rows += T;
    report.dense_keys += options.causal ? T * (T + 1) / 2 : T * T;
    report.leaves += everyone ? T * r : options.causal ? r * (r + 1) / 2 : r * r;
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
