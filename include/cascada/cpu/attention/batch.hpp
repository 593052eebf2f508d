#pragma once
// A call of attention: memory, and the sequences one after the other.

#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/near_far.hpp"
#include "cascada/cpu/attention/operands.hpp"
#include "cascada/cpu/attention/compressed.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Room for a KV head's leaves, and none yet. Whole clusters are leaves of any size.
template <cpu_backend B, class E>
void prepare_leaves(const attention_options& options, index_t tokens, index_t key_dim, index_t value_dim,
                    kv_head_state<B, E>& head) {
  leaf_shape shape{.key_dim = key_dim, .value_dim = value_dim};
  if (options.keys == key_set::near_and_far) {
    const index_t groups = options.moments.value_or(0);
    shape.size           = options.leaf;
    shape.moments        = groups < key_dim ? groups : key_dim;
    shape.sinks          = options.sink_tokens < tokens ? options.sink_tokens : tokens;
    if (options.leaves == leaf_formation::by_keys) {
      head.chains.reserve(tokens, key_dim);
      head.chains.clear(head.lists.count(), key_dim, options.leaf_threshold, shape.sinks);
    }
  }
  head.leaves.reserve(tokens, key_dim, value_dim, shape.moments);
  head.leaves.clear(shape, tokens);
}

/// Memory for one sequence, and its clusters. Grows to the longest seen. Every layer has its own r, so there is room
/// for T clusters: of that, a call touches the pages of its own r, and untouched pages cost nothing.
template <cpu_backend B, class E, class Sequence>
void prepare(const Sequence& sequence, const attention_options& options, std::span<const representatives> selections,
             attention_workspace<B, E>& space, const B& where) {
  const index_t tokens = sequence.tokens, group = sequence.group, kv_heads = sequence.kv.kv_heads();
  const index_t key_dim = sequence.q.dim, value_dim = sequence.kv.value_dim();
  const auto    grow = [](auto& all, index_t count) {
    if (all.size() < static_cast<std::size_t>(count)) all.resize(static_cast<std::size_t>(count));
  };
  grow(space.workers, detail::workers_of(where.executor));
  const index_t room     = tile_tokens<B, E>(group, key_dim, value_dim);
  const index_t most     = options.open == opening::by_mass && room < options.tile ? options.tile : room;
  const index_t together = tokens < most ? tokens : most;
  for (auto& worker : space.workers) {
    worker.reserve(together, group, key_dim, value_dim);
    if (options.weighted) worker.bias.reserve(std::int64_t{together} * step_keys<B, E>);
  }
  if (selections.empty()) return;

  grow(space.lists, static_cast<index_t>(selections.size()));
  grow(space.heads, kv_heads);
  for (index_t h = 0; h < kv_heads; ++h) {
    const std::size_t own  = selections.size() == 1 ? 0 : static_cast<std::size_t>(h);
    auto&             head = space.head(h);
    if (h == 0 || own > 0) {
      space.lists[own].reserve(tokens);
      head.lists = space.lists[own].list(selections[own]);
    } else {
      head.lists = space.head(0).lists;
    }
    prepare_leaves(options, tokens, key_dim, value_dim, head);
    if (options.queries != query_set::grouped) continue;
    const index_t groups = tokens < options.chunk ? tokens : options.chunk;
    head.group_of.reserve(tokens);
    head.asks.reserve(groups);
    head.closed.reserve(std::int64_t{groups} * group);
    head.group_tile.reserve(std::int64_t{groups} * group, key_dim, value_dim);
    head.group_rows = begin_queries(sequence, groups, head.group_tile);
  }
  if (options.keys != key_set::near_and_far) return;
  grow(space.far_fields, static_cast<index_t>(space.workers.size()));
  const index_t moments = space.head(0).leaves.shape().moments;
  for (auto& worker : space.far_fields) reserve<B>(worker, options, tokens, group, moments);
}

/// Every sequence of a call, one after the other.
template <cpu_backend B, class E, class Sequence>
void attend_batch(Sequence sequence, const attention_options& options, std::span<const representatives> selections,
                  std::span<const index_t> offsets, attention_workspace<B, E>& space, const B& where,
                  attention_report& report) {
  const std::size_t sequences = offsets.size() - 1, per_sequence = selections.size() / sequences;
  for (std::size_t s = 0; s < sequences; ++s) {
    sequence.base   = offsets[s];
    sequence.tokens = offsets[s + 1] - offsets[s];
    if (sequence.tokens == 0) continue;
    prepare(sequence, options, selections.subspan(s * per_sequence, per_sequence), space, where);
    switch (options.keys) {
      case key_set::all: attend_dense(sequence, options.causal, space, where, report); break;
      case key_set::representatives: attend_representatives(sequence, options, space, where, report); break;
      case key_set::near:
      case key_set::near_and_far: attend_chunks(sequence, options, space, where, report); break;
    }
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
