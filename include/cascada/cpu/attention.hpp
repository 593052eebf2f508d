#pragma once
// A call of attention: checks, memory, and the sequences one after the other.

#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention_near_far.hpp"
#include "cascada/cpu/attention_operands.hpp"
#include "cascada/cpu/attention_representatives.hpp"
#include "cascada/cpu/attention_workspace.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Offsets that cut `tokens` tokens into sequences. O(sequences).
template <cpu_backend B>
[[nodiscard]] status check_offsets(std::span<const index_t> offsets, index_t tokens) noexcept {
  if (!offsets.data()) return {status::invalid_shape, "sequence_offsets is null"};
  if (offsets.front() != 0) return {status::invalid_shape, "sequence_offsets does not begin at 0"};
  if (offsets.back() != tokens) return {status::invalid_shape, "sequence_offsets does not end at q.tokens"};
  for (std::size_t s = 1; s < offsets.size(); ++s)
    if (offsets[s] < offsets[s - 1]) return {status::invalid_shape, "sequence_offsets descends"};
  return status::ok;
}

/// Shapes of q, kv and out that fit each other, and at least one offset that cuts them. No tokens are fine, whatever
/// their columns and data.
template <cpu_backend B, row_scalar Scalar, kv_view KV, row_scalar Out>
[[nodiscard]] status check_shapes(const heads_view<const Scalar>& q, const KV& kv, const heads_view<Out>& out,
                                  std::span<const index_t> offsets) noexcept {
  if (const status answer = detail::check_heads(q, detail::sentences_of_q()); answer != status::ok) return answer;
  if (const status answer = detail::check_heads(out, detail::sentences_of_out()); answer != status::ok) return answer;
  if (const status answer = kv.check(); answer != status::ok) return answer;
  if (kv.tokens() != q.tokens) return {status::invalid_shape, "kv.tokens() differs from q.tokens"};
  if (kv.kv_heads() < 1) return {status::invalid_shape, "kv.kv_heads() is less than 1"};
  if (q.heads % kv.kv_heads() != 0) return {status::invalid_shape, "q.heads is no multiple of kv.kv_heads()"};
  if (out.tokens != q.tokens) return {status::invalid_shape, "out.tokens differs from q.tokens"};
  if (out.heads != q.heads) return {status::invalid_shape, "out.heads differs from q.heads"};
  if (q.tokens > 0 && kv.key_dim() != q.dim) return {status::invalid_shape, "kv.key_dim() differs from q.dim"};
  if (q.tokens > 0 && out.dim != kv.value_dim()) return {status::invalid_shape, "out.dim differs from kv.value_dim()"};
  return check_offsets<B>(offsets, q.tokens);
}

/// One legal selection per sequence, or per (sequence, KV head).
template <cpu_backend B>
[[nodiscard]] status check_selections(std::span<const representatives> selections, std::span<const index_t> offsets,
                                      index_t kv_heads) noexcept {
  const std::size_t sequences = offsets.size() - 1, count = selections.size();
  if (count != sequences && count != sequences * static_cast<std::size_t>(kv_heads))
    return detail::illegal("selections has neither one for each sequence nor one for each of its KV heads");
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t s      = i / (count / sequences);
    const index_t     tokens = offsets[s + 1] - offsets[s];
    if (selections[i].rep.size() != static_cast<std::size_t>(tokens))
      return detail::illegal("selections has one that is not as long as its sequence");
    if (const status answer = check(selections[i], tokens); answer != status::ok) return answer;
  }
  return status::ok;
}

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
