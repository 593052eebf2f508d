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
#include "cascada/cpu/attention/asked_leaves.hpp"
#include "cascada/cpu/attention/clusters.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/packing.hpp"
#include "cascada/cpu/attention/queries.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/float_environment.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// What one worker needs for the far field of a tile, and what it counted.
template <cpu_backend B>
struct far_field_scratch {
  buffer<float, B>         weights;      // [rows, leaves]
  buffer<float, B>         spreads;      // [rows, moments]
  buffer<float, B>         shares;       // [rows]: factor of what a row attended to before
  buffer<float, B>         maxima;       // [rows]: what weights are relative to
  buffer<float, B>         closed;       // [rows, vec width]: weights of closed leaves of several tokens
  buffer<float, B>         bounds;       // [rows]: weights of leaves that open
  buffer<float, B>         near_maxima;  // [rows]: of rows with huge logits, what the near field left
  buffer<float, B>         near_sums;    // [rows, vec width]
  buffer<std::uint32_t, B> open;         // [leaves]: bits of those that the tile asked for so far
  buffer<index_t, B>       leaves;       // open ones in the order in which they were asked for
  buffer<index_t, B>       leaves_seen;  // [tokens]: how many of them are open for a token
  buffer<index_t, B>       opened;       // their tokens
  buffer<index_t, B>       seen;         // [tokens]: how many of those a token sees

  struct {
    std::int64_t opened = 0, computed = 0, mass = 0;  // as in attention_report; mass times 2^32, over heads
  } counts;

  CASCADA_INLINE float closed_of(index_t row) const noexcept {
    return reduce_sum(vec<B>::load(closed.data() + row * vec<B>::width));
  }
};

/// One KV head's clusters and their leaves, and the groups of queries that ask them.
template <cpu_backend B, class E>
struct kv_head_state {
  clusters             lists = {};
  leaf_chains<B>       chains;  // by keys only
  leaf_summaries<B, E> leaves;
  asked_leaves<B>      asked;  // in sequences that grow
  query_tile<B, E>     group_tile;
  query_rows<B, E>     group_rows;  // one token per group
  buffer<index_t, B>   group_of;    // [r]: the group of a cluster's tokens in this chunk
  buffer<index_t, B>   asks;        // [groups]: the cluster of a group
  buffer<float, B>     closed;      // [rows of groups]: weights of closed leaves of several tokens
  index_t              groups = 0;
};

template <cpu_backend B, class E>
struct attention_workspace {
  /// Of a batch. A type of its own, so that differently compiled objects sort it by functions of their own.
  struct numbered_sequence {
    index_t tokens, number;
  };

  std::vector<attention_scratch<B, E>> workers;
  std::vector<far_field_scratch<B>>    far_fields;        // one per worker
  std::vector<cluster_lists<B>>        lists;             // one, or one per KV head
  std::vector<kv_head_state<B, E>>     heads;             // one per KV head
  kv_head_state<B, E>*                 in_use = nullptr;  // these, or those of a sequence that grows
  buffer<numbered_sequence, B>         order;             // the longest first

  CASCADA_INLINE kv_head_state<B, E>& head(index_t kv_head) noexcept { return in_use[kv_head]; }
};

/// At least `count` of what there is one of for each worker, head or selection.
template <class Each>
void grow(std::vector<Each>& all, index_t count) {
  if (all.size() < static_cast<std::size_t>(count)) all.resize(static_cast<std::size_t>(count));
}

/// Brings a KV head's chains up to tokens [0, end): leaves are not touched.
template <cpu_backend B, class E, class Sequence>
void extend_chains(const Sequence& sequence, leaf_formation formation, index_t kv_head, index_t end,
                   kv_head_state<B, E>& head) noexcept {
  if (formation == leaf_formation::by_keys)
    head.chains.extend(head.lists.slots.data(), end, [&](index_t t) { return sequence.key(t, kv_head); });
}

/// Brings a KV head's leaves up to tokens [0, end).
template <cpu_backend B, class E, class Sequence>
void extend_leaves(const Sequence& sequence, leaf_formation formation, index_t kv_head, index_t end,
                   kv_head_state<B, E>& head) noexcept {
  const auto key   = [&](index_t t) { return sequence.key(t, kv_head); };
  const auto value = [&](index_t t) { return sequence.value(t, kv_head); };
  extend_chains(sequence, formation, kv_head, end, head);
  const bool by_keys = formation == leaf_formation::by_keys;
  head.leaves.extend(by_keys ? head.chains.chain_of() : head.lists.slots.data(), end, key, value);
}

/// Query tokens of each tile where `tokens` are asking: as many as a tile has room for, but down to a quarter of that,
/// or of them, if it leaves several workers fewer than four tasks each; then a multiple of `multiple`, at least that.
template <cpu_backend B, class E, class Sequence>
index_t task_tokens(const Sequence& sequence, index_t tokens, const attention_workspace<B, E>& space,
                    index_t multiple = 1) noexcept {
  const auto workers = static_cast<std::int64_t>(space.workers.size()), kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const index_t room = tile_tokens<B, E>(sequence.group, sequence.q.dim, sequence.kv.value_dim());
  const index_t most = tokens < 1 ? 1 : tokens < room ? tokens : room;
  index_t       step = most;
  while (workers > 1 && step > 1 && step > most / 4 &&
         (std::int64_t{tokens} + step - 1) / step * kv_heads < 4 * workers)
    step /= 2;
  return step < multiple ? multiple : step / multiple * multiple;
}

/// function(worker, task) for every task, on as many workers as the executor runs at once. Tasks start in order.
template <cpu_backend B, class E, class Function>
void for_each_task(const B& where, const attention_workspace<B, E>& space, std::int64_t tasks,
                   const Function& function) {
  std::atomic<std::int64_t> next{0};
  const auto                workers = static_cast<std::int64_t>(space.workers.size());
  parallel_for<B>(where.executor, static_cast<index_t>(workers < tasks ? workers : tasks), [&](index_t worker) {
    for (std::int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task              = next.fetch_add(1, std::memory_order_relaxed))
      function(worker, task);
  });
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
