#pragma once
// Memory of an attention object, and how its work is shared out.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention_operands.hpp"
#include "cascada/cpu/buffer.hpp"
#include "cascada/cpu/cluster.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// What one worker needs to refine the far field of a few tokens. A token's place is where cluster_rows keeps it.
template <cpu_backend B>
struct refinement_scratch {
  buffer<float, B>   weights;        // [rows, clusters]
  buffer<float, B>   shares;         // [rows]: factor of what a row attended to before
  buffer<float, B>   totals;         // [rows]: sum of a row's weights, near field and clusters
  buffer<float, B>   queries;        // [group, key_dim], on whole vectors
  buffer<float, B>   scores;         // [clusters], then [candidates]
  buffer<float, B>   logits;         // [group, candidates]
  buffer<index_t, B> candidates;     // [candidates]: places, a cluster's side by side
  buffer<index_t, B> picks;          // clusters that give candidates; then ties; then candidates that are chosen
  buffer<float, B>   ranked;         // scores among which a cut may still fall
  buffer<index_t, B> ranked_sizes;   // and their amounts
  buffer<index_t, B> chosen;         // [tokens, budget]: places, in the order of the candidates
  buffer<float, B>   chosen_logits;  // [rows, budget]
  buffer<float, B>   chosen_values;  // pairs: [lanes of budget, value_stride]
};

/// One KV head's clusters and their summaries, and the groups of queries that ask them.
template <cpu_backend B, class E>
struct kv_head_state {
  clusters                lists = {};
  cluster_summaries<B, E> summaries;
  cluster_rows<B, E>      far_rows;  // refinement only
  query_tile<B, E>        group_tile;
  query_rows<B, E>        group_rows;  // one token per group
  buffer<index_t, B>      group_of;    // [r]: the group of a cluster's tokens in this chunk
  buffer<index_t, B>      asks;        // [groups]: the cluster of a group
  index_t                 groups = 0;
};

template <cpu_backend B, class E>
struct attention_workspace {
  std::vector<attention_scratch<B, E>> workers;
  std::vector<refinement_scratch<B>>   refinements;  // one per worker
  std::vector<cluster_lists<B>>        lists;        // one, or one per KV head
  std::vector<kv_head_state<B, E>>     heads;        // one per KV head

  CASCADA_INLINE kv_head_state<B, E>& head(index_t kv_head) noexcept { return heads.data()[kv_head]; }
};

/// Brings a KV head's summaries, or its rows in the order of the clusters, up to tokens [0, end).
template <cpu_backend B, class E, class Sequence, class Clusters>
void extend_far_field(const Sequence& sequence, index_t kv_head, index_t end, const kv_head_state<B, E>& head,
                      Clusters& far) noexcept {
  far.extend(
      head.lists.slots.data(), end, [&](index_t t) { return sequence.key(t, kv_head); },
      [&](index_t t) { return sequence.value(t, kv_head); });
}

/// Query tokens of each tile where `tokens` are asking: as many as a tile has room for, but down to a quarter of that, or
/// of them, if it leaves several workers fewer than four tasks each.
template <cpu_backend B, class E, class Sequence>
index_t task_tokens(const Sequence& sequence, index_t tokens, const attention_workspace<B, E>& space) noexcept {
  const auto workers = static_cast<std::int64_t>(space.workers.size()), kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const index_t room = tile_tokens<B, E>(sequence.group, sequence.q.dim, sequence.kv.value_dim());
  const index_t most = tokens < 1 ? 1 : tokens < room ? tokens : room;
  index_t       step = most;
  while (workers > 1 && step > 1 && step > most / 4 &&
         (std::int64_t{tokens} + step - 1) / step * kv_heads < 4 * workers)
    step /= 2;
  return step;
}

/// function(worker, task) for every task, on as many workers as the executor runs at once. Tasks start in order.
template <cpu_backend B, class E, class Function>
void for_each_task(const B& where, const attention_workspace<B, E>& space, std::int64_t tasks,
                   const Function& function) {
  std::atomic<std::int64_t> next{0};
  const auto                workers = static_cast<std::int64_t>(space.workers.size());
  where.executor.parallel_for(static_cast<index_t>(workers < tasks ? workers : tasks), [&](index_t worker) {
    for (std::int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task              = next.fetch_add(1, std::memory_order_relaxed))
      function(worker, task);
  });
}

}  // namespace cascada::inline CASCADA_ABI::kernel
