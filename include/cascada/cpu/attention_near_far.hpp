#pragma once
// Attention of every token: to all tokens, or to its near field token by token and to older tokens by cluster.

#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention_operands.hpp"
#include "cascada/cpu/attention_refinement.hpp"
#include "cascada/cpu/attention_tile.hpp"
#include "cascada/cpu/attention_workspace.hpp"
#include "cascada/cpu/cluster.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Every token attends to tokens [0, t], or to all T. O(T^2 d).
template <cpu_backend B, class E, class Sequence>
void attend_dense(const Sequence& sequence, bool causal, attention_workspace<B, E>& space, const B& where) {
  const index_t T = sequence.tokens, step = task_tokens(sequence, T, space);
  const auto    tiles = (std::int64_t{T} + step - 1) / step, kv_heads = std::int64_t{sequence.kv.kv_heads()};
  for_each_task(where, space, tiles * kv_heads, [&](index_t worker, std::int64_t task) {
    auto&         scratch = space.workers.data()[worker];
    const auto    kv_head = static_cast<index_t>(task % kv_heads);
    const auto    first   = static_cast<index_t>(tiles - 1 - task / kv_heads) * step;  // the longest first
    const index_t count   = T - first < step ? T - first : step;
    const auto    token   = [&](index_t i) { return first + i; };
    const auto    tile    = load_queries(sequence, kv_head, count, token, scratch);
    attend_tokens(
        sequence, kv_head, tile, causal ? first + count : T, causal ? first + 1 : T, [](index_t i) { return i; },
        scratch);
    write_results(sequence, kv_head, tile, token);
  });
}

/// Attends to all clusters of a summary. O(rows r d).
template <cpu_backend B, class E>
void attend_clusters(const query_rows<B, E>& tile, const cluster_summaries<B, E>& summaries,
                     attention_scratch<B, E>& scratch) noexcept {
  for (index_t first = 0; first < summaries.count(); first += step_keys<B, E>)
    attend_block(tile, summaries.block(first), scratch.scores.data());
}

/// A chunk of the causal walk: tokens [begin, end) with one near field, which begins at `near`, and one far field.
struct chunk {
  index_t begin;
  index_t end;
  index_t near;
};

/// The groups of a chunk: its tokens that share a representative. Listed by first token.
template <cpu_backend B, class E>
void list_groups(kv_head_state<B, E>& head, const chunk& now) noexcept {
  head.groups = 0;
  for (index_t t = now.begin; t < now.end; ++t) {
    const index_t cluster = head.lists.slots.data()[t];
    const index_t first   = head.lists.begin(cluster) + head.lists.older(cluster, now.begin);
    if (head.lists.members.data()[first] != t) continue;
    head.asks[head.groups] = cluster;
    head.group_of[cluster] = head.groups++;
  }
}

/// Groups [first, first + count) ask the far field: with the query of their first token, or with their mean query.
template <cpu_backend B, class E, class Sequence>
void attend_groups(const Sequence& sequence, bool lookahead, index_t kv_head, const chunk& now, index_t first,
                   index_t count, kv_head_state<B, E>& head, attention_scratch<B, E>& scratch) noexcept {
  const query_rows<B, E> tile = head.group_rows.part(first, count);
  clear(tile);
  for (index_t i = 0; i < count; ++i) {
    const index_t  cluster = head.asks[first + i];
    const index_t* members = head.lists.members.data() + head.lists.begin(cluster);
    const index_t  begin   = head.lists.older(cluster, now.begin);
    const index_t  end     = lookahead ? head.lists.older(cluster, now.end) : begin + 1;
    mean_queries(sequence, kv_head, members + begin, end - begin, tile.part(i, 1));
  }
  attend_clusters(tile, head.summaries, scratch);
}

/// The far field of tokens from `first`, whose near field is done.
template <cpu_backend B, class E>
void attend_far_field(const attention_options& options, index_t kv_head, index_t first, const query_rows<B, E>& tile,
                      attention_workspace<B, E>& space, index_t worker) noexcept {
  kv_head_state<B, E>& head = space.head(kv_head);
  if (options.queries == query_set::grouped) {
    for (index_t row = 0; row < tile.rows; ++row) {
      const index_t group = head.group_of[head.lists.slots.data()[first + row / tile.group]];
      merge_row(tile, row, head.group_rows, group * tile.group + row % tile.group);
    }
  } else if (options.budget > 0) {
    refine(options, tile, head, space.refinements.data()[worker]);
  } else {
    attend_clusters(tile, head.summaries, space.workers.data()[worker]);
  }
}

/// Tokens [first, first + count) of a chunk.
template <cpu_backend B, class E, class Sequence>
void attend_chunk_tile(const Sequence& sequence, const attention_options& options, index_t kv_head, const chunk& now,
                       index_t first, index_t count, attention_workspace<B, E>& space, index_t worker) noexcept {
  auto&      scratch = space.workers.data()[worker];
  const auto token   = [&](index_t i) { return first + i; };
  const auto tile    = load_queries(sequence, kv_head, count, token, scratch);
  // A budget for every far token makes the rows dense: the same walk, from the sequence's first key.
  const bool    far  = options.keys == key_set::near_and_far && now.near > options.budget;
  const index_t from = far || options.keys == key_set::near ? now.near : 0;
  attend_tokens(
      sequence, kv_head, tile, first + count - from, first + 1 - from, [&](index_t i) { return from + i; }, scratch);
  if (far) attend_far_field(options, kv_head, first, tile, space, worker);
  write_results(sequence, kv_head, tile, token);
}

/// Brings the far field of a chunk up to date and, with grouped queries, asks it.
template <cpu_backend B, class E, class Sequence>
void prepare_far_field(const Sequence& sequence, const attention_options& options, const chunk& now,
                       attention_workspace<B, E>& space, const B& where) {
  const auto kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const bool grouped  = options.queries == query_set::grouped;
  for_each_task(where, space, kv_heads, [&](index_t, std::int64_t task) {
    const auto kv_head = static_cast<index_t>(task);
    auto&      head    = space.head(kv_head);
    extend_far_field(sequence, kv_head, now.near, head, head.summaries);
    if (options.budget > 0) extend_far_field(sequence, kv_head, now.near, head, head.far_rows);
    if (grouped) list_groups(head, now);
  });
  if (!grouped) return;
  const index_t step  = task_tokens(sequence, now.end - now.begin, space);
  const auto    tiles = (std::int64_t{now.end} - now.begin + step - 1) / step;
  for_each_task(where, space, tiles * kv_heads, [&](index_t worker, std::int64_t task) {
    const auto    kv_head = static_cast<index_t>(task % kv_heads);
    auto&         head    = space.head(kv_head);
    const index_t first = static_cast<index_t>(task / kv_heads) * step, left = head.groups - first;
    if (left > 0)
      attend_groups(sequence, options.lookahead, kv_head, now, first, left < step ? left : step, head,
                    space.workers.data()[worker]);
  });
}

/// Token t of chunk c = floor(t / C) attends to [max(0, C c - W), t]; with a far field, to the older tokens through
/// their clusters. O(T (W + C + r) d).
template <cpu_backend B, class E, class Sequence>
void attend_chunks(const Sequence& sequence, const attention_options& options, attention_workspace<B, E>& space,
                   const B& where) {
  const auto    kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const index_t step = task_tokens(sequence, options.chunk < sequence.tokens ? options.chunk : sequence.tokens, space);
  for (chunk now = {}; now.begin < sequence.tokens; now.begin = now.end) {
    now.end  = sequence.tokens - now.begin < options.chunk ? sequence.tokens : now.begin + options.chunk;
    now.near = now.begin < options.window ? 0 : now.begin - options.window;
    if (options.keys == key_set::near_and_far && now.near > options.budget)
      prepare_far_field(sequence, options, now, space, where);
    const auto tiles = (std::int64_t{now.end} - now.begin + step - 1) / step;
    for_each_task(where, space, tiles * kv_heads, [&](index_t worker, std::int64_t task) {
      const auto    kv_head = static_cast<index_t>(task % kv_heads);
      const index_t first   = now.begin + static_cast<index_t>(tiles - 1 - task / kv_heads) * step;
      const index_t count   = now.end - first < step ? now.end - first : step;
      attend_chunk_tile(sequence, options, kv_head, now, first, count, space, worker);
    });
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
