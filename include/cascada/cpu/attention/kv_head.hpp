#pragma once
// What attention knows of one KV head: clusters, leaves, and who asks them.

#include <cstddef>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention/asked_leaves.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/base/buffer.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

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

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
