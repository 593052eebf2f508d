#pragma once
// Attention of every token to its near field token by token and, if there is a far field, to older tokens by leaf.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/chunk.hpp"
#include "cascada/cpu/attention/extend_leaves.hpp"
#include "cascada/cpu/attention/far_field.hpp"
#include "cascada/cpu/attention/groups.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/walk.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/cpu/attention/write_results.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The far field of tokens from `first`, whose near field is done.
template <cpu_backend B, class E, class Sequence>
void attend_far_field(const Sequence& sequence, const attention_options& options, index_t kv_head, index_t first,
                      const query_rows<B, E>& tile, kv_head_state<B, E>& head, const kv_head_scratch<B, E>& own,
                      far_field_scratch<B>& far, attention_scratch<B, E>& scratch) noexcept {
  if (options.queries != query_set::grouped)
    attend_leaves(sequence, options, kv_head, first, tile, head, far, scratch);
  else if (head.leaves.count() > 0)
    take_from_groups(own.lists, own.groups, first, tile, far);
}

/// Tokens [first, first + count) of a chunk, and KV heads from `kv_head`. Opening everything makes the rows dense: the
/// same walk, from the sequence's first key.
template <cpu_backend B, class E, class Sequence>
void attend_chunk_tile(const Sequence& sequence, const attention_options& options, index_t kv_head, index_t heads,
                       const chunk& now, index_t first, index_t count, kv_head_state<B, E>* states,
                       attention_workspace<B, E>& space, index_t worker) noexcept {
  auto&            scratch = space.workers.data()[worker];
  const auto       token   = [&](index_t i) { return first + i; };
  const auto       tile    = load_queries(sequence, kv_head, heads, count, token, scratch.tile);
  const bool       far     = detail::has_leaves(options);
  const near_field near    = near_field_of(options, now);
  attend_tokens(
      sequence, kv_head, heads, tile, first, near.sinks + first + count - near.edge, near.sinks + first + 1 - near.edge,
      [&](index_t i) { return i < near.sinks ? i : near.edge - near.sinks + i; }, scratch);
  for (index_t h = 0; h < heads; ++h) {
    const auto part = tile.part(h * count, count);
    if (far)
      attend_far_field(sequence, options, kv_head + h, first, part, states[kv_head + h], space.scratch_of(kv_head + h),
                       space.far_fields.data()[worker], scratch);
    write_results(sequence, kv_head + h, part, token);
  }
}

/// Brings the far field of a chunk up to date and, with grouped queries, asks it.
template <cpu_backend B, class E, class Sequence>
void prepare_far_field(const Sequence& sequence, const attention_options& options, const chunk& now,
                       kv_head_state<B, E>* states, attention_workspace<B, E>& space, const B& where) {
  const auto kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const bool grouped  = options.queries == query_set::grouped;
  for_each_task(where, space.crew(), kv_heads, [&](index_t, std::int64_t task) {
    const auto kv_head = static_cast<index_t>(task);
    auto&      own     = space.scratch_of(kv_head);
    extend_leaves(sequence, options.leaves, kv_head, now.edge, own, states[kv_head].leaves);
    if (grouped) list_groups(own.lists, now, own.groups);
  });
  if (!grouped) return;
  const index_t    most  = now.end - now.begin;  // groups
  const tile_tasks tasks = {.from     = 0,
                            .to       = most,
                            .step     = task_tokens<B, E>(sequence, most, space.crew()),
                            .kv_heads = sequence.kv.kv_heads()};
  for_each_task(where, space.crew(), tasks.count(), [&](index_t worker, std::int64_t task) {
    const index_t kv_head = tasks.kv_head(task), first = tasks.begin(task);
    auto&         own = space.scratch_of(kv_head);
    const index_t end = std::min(own.groups.count, tasks.end(task));
    if (first < end)
      attend_groups(sequence, options, kv_head, now, first, end - first, own.lists, own.groups, states[kv_head],
                    space.far_fields.data()[worker], space.workers.data()[worker]);
  });
}

/// What the rows of a chunk read besides opened tokens.
template <class State, class Sequence>
void count_chunk(const Sequence& sequence, const attention_options& options, const chunk& now, const State* states,
                 attention_report& report) noexcept {
  const std::int64_t kv_heads = sequence.kv.kv_heads(), tokens = now.end - now.first;
  const bool         far   = detail::has_leaves(options);
  const near_field   near  = near_field_of(options, now);
  const std::int64_t older = tokens * now.first + tokens * (tokens + 1) / 2;  // keys up to each token
  report.rows += kv_heads * tokens;
  report.dense_keys += kv_heads * older;
  report.near_keys += kv_heads * (older - tokens * (near.edge - near.sinks));
  for (index_t h = 0; far && h < kv_heads; ++h) {
    const std::int64_t leaves = states[h].leaves.count();
    report.leaves += tokens * leaves;
    report.far_rows += leaves > 0 ? tokens : 0;
  }
}

/// Token t of chunk c = floor(t / C) attends to sinks and [max(0, C c - W), t]; with a far field, to the other tokens
/// through leaves. O(T (W + C + leaves) d).
template <cpu_backend B, class E, class Sequence>
void attend_chunks(const Sequence& sequence, const attention_options& options, kv_head_state<B, E>* states,
                   attention_workspace<B, E>& space, const B& where, attention_report& report) {
  const auto    kv_heads = std::int64_t{sequence.kv.kv_heads()};
  const bool    far      = detail::has_leaves(options);
  const index_t multiple = detail::opens_by_mass(options) ? options.tile : 1;
  const index_t most     = options.chunk < sequence.queries() ? options.chunk : sequence.queries();
  const index_t step =
      has_few_queries(sequence) ? options.chunk : task_tokens<B, E>(sequence, most, space.crew(), multiple);
  tile_tasks tasks = query_tasks(sequence, step, space.crew());
  for (auto& worker : space.far_fields) worker.counts = {};
  for (chunk now = first_chunk(sequence, options); now.begin < sequence.tokens; now.begin = now.first = now.end) {
    now.end  = sequence.tokens - now.begin < options.chunk ? sequence.tokens : now.begin + options.chunk;
    now.edge = edge_of(now.begin, options.window);
    if (far) prepare_far_field(sequence, options, now, states, space, where);
    tasks.from = now.first - (now.first - now.begin) % multiple;  // of this chunk
    tasks.to   = now.end;
    // The chains of the next chunk are found meanwhile: the longest tasks first.
    const index_t      next   = now.end == sequence.tokens ? 0 : edge_of(now.end, options.window);
    const std::int64_t others = far && next > 0 ? kv_heads : 0;
    for_each_task(where, space.crew(), others + tasks.count(), [&](index_t worker, std::int64_t task) {
      if (task < others) {
        const auto kv_head = static_cast<index_t>(task);
        auto&      own     = space.scratch_of(kv_head);
        return extend_chains(sequence, options.leaves, kv_head, next, own.lists, own.chains);
      }
      task -= others;
      const index_t first = std::max(now.first, tasks.begin(task)), count = tasks.end(task) - first;
      attend_chunk_tile(sequence, options, tasks.kv_head(task), tasks.heads(task), now, first, count, states, space,
                        worker);
    });
    count_chunk(sequence, options, now, states, report);
  }
  std::int64_t mass = 0;
  for (const auto& worker : space.far_fields) {
    report.opened += worker.counts.opened;
    report.computed += worker.counts.computed;
    mass += worker.counts.mass;
  }
  report.mass += static_cast<double>(mass) * 0x1p-32 / sequence.group;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
