#pragma once
// A call of attention: memory, and the sequences one after the other.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_checks.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/compressed.hpp"
#include "cascada/cpu/attention/near_far.hpp"
#include "cascada/cpu/attention/queries.hpp"
#include "cascada/cpu/attention/sequence.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The shape of the leaves that the options ask for. Whole clusters are leaves of any size.
template <class Sequence>
CASCADA_INLINE leaf_shape shape_of_leaves(const Sequence& sequence, const attention_options& options) noexcept {
  leaf_shape shape{.key_dim = sequence.q.dim, .value_dim = sequence.kv.value_dim()};
  if (!detail::kinds_of(options.keys).far_field) return shape;
  const index_t groups = options.moments.value_or(0);
  shape.size           = options.leaf;
  shape.moments        = groups < shape.key_dim ? groups : shape.key_dim;
  shape.sinks          = options.sink_tokens;
  shape.rounded        = options.summaries == summary_type::bfloat16;
  return shape;
}

/// Room for a KV head's leaves, and none yet.
template <cpu_backend B, class E, class Sequence>
void prepare_leaves(const Sequence& sequence, const attention_options& options, kv_head_state<B, E>& head) {
  const index_t    tokens = sequence.tokens;
  const leaf_shape shape  = shape_of_leaves(sequence, options);
  if (detail::kinds_of(options.keys).far_field && options.leaves == leaf_formation::by_keys) {
    head.chains.reserve(tokens, shape.key_dim);
    head.chains.clear(shape.key_dim, options.leaf_threshold, shape.sinks);
    head.chains.add_clusters(head.lists.count());
  }
  head.leaves.reserve(tokens, shape);
  head.leaves.clear(shape, tokens);
}

/// Memory for every worker; `room`: tokens that leaves may stand for.
template <cpu_backend B, class E, class Sequence>
void prepare_workers(const Sequence& sequence, const attention_options& options, index_t room,
                     attention_workspace<B, E>& space, const B& where) {
  const index_t queries = sequence.queries(), group = sequence.group;
  const index_t key_dim = sequence.q.dim, value_dim = sequence.kv.value_dim();
  grow(space.workers, detail::workers_of(where.executor));
  const index_t of_tile  = tile_tokens<B, E>(group, key_dim, value_dim);
  const index_t most     = options.open == opening::by_mass && of_tile < options.tile ? options.tile : of_tile;
  const index_t few      = queries * group <= few_rows ? queries * sequence.kv.kv_heads() : queries;  // of all heads
  const index_t together = few < most ? few : most;
  for (auto& worker : space.workers) {
    worker.reserve(together, group, key_dim, value_dim);
    if (options.weighted) worker.bias.reserve(std::int64_t{together} * block_keys<B, E>);
  }
  if (!detail::kinds_of(options.keys).far_field) return;
  grow(space.far_fields, static_cast<index_t>(space.workers.size()));
  const index_t moments = shape_of_leaves(sequence, options).moments;
  for (auto& worker : space.far_fields) reserve<B>(worker, options, room, group, moments);
}

/// Memory for one sequence, and its clusters. Grows to the longest seen. Every layer has its own r, so there is room
/// for T clusters: of that, a call touches the pages of its own r, and untouched pages cost nothing.
template <cpu_backend B, class E, class Sequence>
void prepare(const Sequence& sequence, const attention_options& options, std::span<const representatives> selections,
             attention_workspace<B, E>& space, const B& where) {
  const index_t tokens = sequence.tokens, group = sequence.group, kv_heads = sequence.kv.kv_heads();
  prepare_workers(sequence, options, tokens, space, where);
  if (selections.empty()) return;

  grow(space.lists, static_cast<index_t>(selections.size()));
  grow(space.heads, kv_heads);
  space.in_use = space.heads.data();
  for (index_t h = 0; h < kv_heads; ++h) {
    const std::size_t own  = selections.size() == 1 ? 0 : static_cast<std::size_t>(h);
    auto&             head = space.head(h);
    if (h == 0 || own > 0) {
      space.lists[own].reserve(tokens);
      head.lists = space.lists[own].list(selections[own]);
    } else {
      head.lists = space.head(0).lists;
    }
    prepare_leaves(sequence, options, head);
    if (options.queries != query_set::grouped) continue;
    const index_t groups = tokens < options.chunk ? tokens : options.chunk;
    head.group_of.reserve(tokens);
    head.asks.reserve(groups);
    head.closed.reserve(std::int64_t{groups} * group);
    head.group_tile.reserve(std::int64_t{groups} * group, sequence.q.dim, sequence.kv.value_dim());
    head.group_rows = begin_queries(sequence, groups, head.group_tile);
  }
}

/// One sequence, whose memory is prepared.
template <cpu_backend B, class E, class Sequence>
void attend_sequence(const Sequence& sequence, const attention_options& options, attention_workspace<B, E>& space,
                     const B& where, attention_report& report) {
  switch (options.keys) {
    case key_set::all: attend_dense(sequence, options.causal, space, where, report); break;
    case key_set::representatives: attend_representatives(sequence, options, space, where, report); break;
    case key_set::near:
    case key_set::near_and_far: attend_chunks(sequence, options, space, where, report); break;
  }
}

/// Sequence s of a call.
template <class Sequence>
CASCADA_INLINE Sequence sequence_of_call(Sequence sequence, const detail::sequence_spans& spans,
                                         std::size_t s) noexcept {
  sequence.base       = spans.keys[s];
  sequence.tokens     = spans.tokens(s);
  sequence.first      = sequence.tokens - spans.asking(s);
  sequence.query_base = spans.queries[s] - sequence.first;
  return sequence;
}

/// Dense attention of sequences that ask few queries each, as a batch that decodes. One of them is too little work to
/// share out, and its heads are better read together: the workers take whole sequences, the longest first.
template <cpu_backend B, class E, class Sequence>
void attend_few_each(const Sequence& call, const attention_options& options, const detail::sequence_spans& spans,
                     attention_workspace<B, E>& space, const B& where, attention_report& report) {
  index_t asking = 0;
  space.order.reserve(static_cast<std::int64_t>(spans.count()));
  for (std::size_t s = 0; s < spans.count(); ++s) {
    if (spans.asking(s) == 0) continue;
    const Sequence sequence = sequence_of_call(call, spans, s);
    prepare_workers(sequence, options, sequence.tokens, space, where);
    space.order[asking++] = {sequence.tokens, static_cast<index_t>(s)};
  }
  std::sort(space.order.data(), space.order.data() + asking, [](const auto& a, const auto& b) {
    return a.tokens != b.tokens ? a.tokens > b.tokens : a.number < b.number;
  });
  const auto    workers = static_cast<index_t>(space.workers.size());
  const index_t of_one  = asking < workers ? (workers + asking - 1) / asking : 1;
  const auto    parts   = std::int64_t{of_one < call.kv.kv_heads() ? of_one : call.kv.kv_heads()};
  for_each_task(where, space, asking * parts, [&](index_t worker, std::int64_t task) {
    const auto       s        = static_cast<std::size_t>(space.order[task / parts].number);
    const Sequence   sequence = sequence_of_call(call, spans, s);
    const tile_tasks tasks(sequence, 1, of_one);
    for (std::int64_t part = task % parts; part < tasks.count(); part += parts)
      attend_dense_tile(sequence, options.causal, tasks, part, sequence.queries(), space.workers.data()[worker]);
  });
  for (index_t i = 0; i < asking; ++i)
    count_dense<B>(sequence_of_call(call, spans, static_cast<std::size_t>(space.order[i].number)), options.causal,
                   report);
}

/// Every sequence of a call: one after the other, or shared out where they ask little each.
template <cpu_backend B, class E, class Sequence>
void attend_batch(Sequence sequence, const attention_options& options, std::span<const representatives> selections,
                  const detail::sequence_spans& spans, attention_workspace<B, E>& space, const B& where,
                  attention_report& report) {
  const std::size_t sequences = spans.count(), per_sequence = selections.size() / sequences;
  bool              few = options.keys == key_set::all && sequences > 1;
  for (std::size_t s = 0; few && s < sequences; ++s) few = asks_few(sequence_of_call(sequence, spans, s));
  if (few) return attend_few_each(sequence, options, spans, space, where, report);
  for (std::size_t s = 0; s < sequences; ++s) {
    if (spans.asking(s) == 0) continue;
    const Sequence one = sequence_of_call(sequence, spans, s);
    prepare(one, options, selections.subspan(s * per_sequence, per_sequence), space, where);
    attend_sequence(one, options, space, where, report);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
