#pragma once
// Memory for a sequence before anything is computed: workers, and for each KV head its clusters and leaves.

#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/far_field.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/representatives.hpp"

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
  shape.kept           = options.summaries;
  return shape;
}

/// Room for a KV head's leaves, and none yet.
template <cpu_backend B, class E, class Sequence>
void prepare_leaves(const Sequence& sequence, const attention_options& options, index_t kv_head,
                    attention_workspace<B, E>& space) {
  if (detail::opens_everything(options)) return;
  const leaf_shape shape = shape_of_leaves(sequence, options);
  auto&            head  = space.heads.data()[kv_head];
  head.leaves.reserve(sequence.tokens, shape);
  head.leaves.clear(shape, sequence.tokens);
  auto& scratch = space.scratch_of(kv_head);
  scratch.sums.reserve(sequence.tokens, shape);
  if (!detail::forms_by_keys(options)) return;
  auto& chains = scratch.chains;
  chains.reserve(sequence.tokens, shape.key_dim);
  chains.clear(shape.key_dim, options.leaf_threshold, shape.sinks);
  chains.add_clusters(scratch.lists.count());
}

/// Memory for every worker; `room`: tokens that leaves may stand for.
template <cpu_backend B, class E, class Sequence>
void prepare_workers(const Sequence& sequence, const attention_options& options, index_t room,
                     attention_workspace<B, E>& space, const B& where) {
  const index_t queries = sequence.queries(), group = sequence.group;
  const index_t key_dim = sequence.q.dim, value_dim = sequence.kv.value_dim();
  grow(space.workers, detail::workers_of(where.executor));
  const index_t of_tile  = tile_tokens<B, E>(group, key_dim, value_dim);
  const index_t most     = detail::opens_by_mass(options) && of_tile < options.tile ? options.tile : of_tile;
  const index_t few      = queries * group <= few_rows ? queries * sequence.kv.kv_heads() : queries;  // of all heads
  const index_t together = few < most ? few : most;
  for (auto& worker : space.workers) {
    worker.reserve(together, group, key_dim, value_dim);
    if (options.weighted) worker.bias.reserve(std::int64_t{together} * block_keys<B, E>);
  }
  if (!detail::has_leaves(options)) return;
  grow(space.far_fields, space.crew());
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
  grow(space.of_heads, kv_heads);
  for (index_t h = 0; h < kv_heads; ++h) {
    const std::size_t own     = selections.size() == 1 ? 0 : static_cast<std::size_t>(h);
    auto&             scratch = space.scratch_of(h);
    if (h == 0 || own > 0) {
      space.lists[own].reserve(tokens);
      scratch.lists = space.lists[own].list(selections[own]);
    } else {
      scratch.lists = space.scratch_of(0).lists;
    }
    prepare_leaves(sequence, options, h, space);
    if (options.queries != query_set::grouped) continue;
    const index_t most = tokens < options.chunk ? tokens : options.chunk;  // groups of a chunk
    scratch.groups.of.reserve(tokens);
    scratch.groups.clusters.reserve(most);
    scratch.groups.closed.reserve(std::int64_t{most} * group);
    scratch.groups.tile.reserve(std::int64_t{most} * group, sequence.q.dim, sequence.kv.value_dim());
    scratch.groups.rows = begin_queries(sequence, most, scratch.groups.tile);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
