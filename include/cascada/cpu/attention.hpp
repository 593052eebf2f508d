#pragma once
// A call of attention: checks, memory, and the sequences one after the other.

#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention_near_far.hpp"
#include "cascada/cpu/attention_operands.hpp"
#include "cascada/cpu/attention_refinement.hpp"
#include "cascada/cpu/attention_representatives.hpp"
#include "cascada/cpu/attention_workspace.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Shapes of q, kv and out that fit each other, and offsets that cut them.
template <cpu_backend B, row_scalar Scalar, kv_view KV, row_scalar Out>
[[nodiscard]] status check_shapes(const heads_view<const Scalar>& q, const KV& kv, const heads_view<Out>& out,
                                  std::span<const index_t> offsets) noexcept {
  if (const status answer = detail::check_heads(q); answer != status::ok) return answer;
  if (const status answer = detail::check_heads(out); answer != status::ok) return answer;
  if (const status answer = kv.check(); answer != status::ok) return answer;
  if (kv.tokens() != q.tokens || kv.key_dim() != q.dim || q.heads % kv.kv_heads() != 0) return status::invalid_shape;
  if (out.tokens != q.tokens || out.heads != q.heads || out.dim != kv.value_dim()) return status::invalid_shape;
  if (offsets.front() != 0 || offsets.back() != q.tokens) return status::invalid_shape;
  for (std::size_t s = 1; s < offsets.size(); ++s)
    if (offsets[s] < offsets[s - 1]) return status::invalid_shape;
  return status::ok;
}

/// One legal selection per sequence, or per (sequence, KV head).
template <cpu_backend B>
[[nodiscard]] status check_selections(std::span<const representatives> selections, std::span<const index_t> offsets,
                                      index_t kv_heads) noexcept {
  const std::size_t sequences = offsets.size() - 1, count = selections.size();
  if (count != sequences && count != sequences * static_cast<std::size_t>(kv_heads))
    return status::invalid_representatives;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t s = i / (count / sequences);
    if (const status answer = check(selections[i], offsets[s + 1] - offsets[s]); answer != status::ok) return answer;
  }
  return status::ok;
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
  grow(space.workers, where.executor.concurrency());
  const index_t most = tile_tokens<B, E>(group, key_dim, value_dim), together = tokens < most ? tokens : most;
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
    head.summaries.reserve(tokens, key_dim, value_dim);
    head.summaries.clear(key_dim, value_dim);
    if (options.budget > 0) {
      head.far_rows.reserve(tokens, key_dim, value_dim);
      head.far_rows.clear(head.lists, key_dim, value_dim);
    }
    if (options.queries != query_set::grouped) continue;
    const index_t groups = tokens < options.chunk ? tokens : options.chunk;
    head.group_of.reserve(tokens);
    head.asks.reserve(groups);
    head.group_tile.reserve(std::int64_t{groups} * group, key_dim, value_dim);
    head.group_rows = begin_queries(sequence, groups, head.group_tile);
  }
  if (options.budget == 0) return;
  grow(space.refinements, static_cast<index_t>(space.workers.size()));
  for (auto& worker : space.refinements) reserve<B, E>(worker, options, tokens, group, key_dim, value_dim);
}

/// Every sequence of a call, one after the other.
template <cpu_backend B, class E, class Sequence>
void attend_batch(Sequence sequence, const attention_options& options, std::span<const representatives> selections,
                  std::span<const index_t> offsets, attention_workspace<B, E>& space, const B& where) {
  const std::size_t sequences = offsets.size() - 1, per_sequence = selections.size() / sequences;
  for (std::size_t s = 0; s < sequences; ++s) {
    sequence.base   = offsets[s];
    sequence.tokens = offsets[s + 1] - offsets[s];
    if (sequence.tokens == 0) continue;
    prepare(sequence, options, selections.subspan(s * per_sequence, per_sequence), space, where);
    switch (options.keys) {
      case key_set::all: attend_dense(sequence, options.causal, space, where); break;
      case key_set::representatives: attend_representatives(sequence, options, space, where); break;
      case key_set::near:
      case key_set::near_and_far: attend_chunks(sequence, options, space, where); break;
    }
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
