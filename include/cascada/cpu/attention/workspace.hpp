#pragma once
// Memory of an attention object.

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
#include "cascada/cpu/attention/query_tile.hpp"
#include "cascada/cpu/base/buffer.hpp"

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

  /// Room for leaves of `tokens` tokens. What there is is lost.
  void reserve_leaves(const attention_options& options, const leaf_shape& shape, index_t tokens) {
    if (detail::forms_by_keys(options)) chains.reserve(tokens, shape.key_dim);
    leaves.reserve(tokens, shape);
  }
  /// The same; what there is stays.
  void grow_leaves(const attention_options& options, index_t tokens) {
    if (detail::forms_by_keys(options)) chains.grow(tokens);
    leaves.grow(tokens);
  }
  /// No leaves yet, in that room.
  void begin_leaves(const attention_options& options, const leaf_shape& shape, index_t tokens) noexcept {
    if (detail::forms_by_keys(options)) chains.clear(shape.key_dim, options.leaf_threshold, shape.sinks);
    leaves.clear(shape, tokens);
  }
  /// Memory of the leaves in use.
  std::size_t bytes_of_leaves(const attention_options& options) const noexcept {
    return leaves.bytes() + (detail::forms_by_keys(options) ? chains.bytes() : 0);
  }
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

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
