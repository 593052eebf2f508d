#pragma once
// What attention knows of one KV head, and what a call makes for it.

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/attention/query_tile.hpp"
#include "cascada/cpu/attention/remembered_leaves.hpp"
#include "cascada/cpu/base/buffer.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// One KV head's leaves.
template <cpu_backend B, class E>
struct kv_head_state {
  leaf_summaries<B, E> leaves;
  remembered_leaves<B> remembered;  // in sequences that grow
  chain_leaders<B>     leaders;     // there, by keys: all that is kept of chains between calls
};

/// A chunk's groups of queries, listed by first token, and what they got of the far field.
template <cpu_backend B, class E>
struct query_groups {
  query_tile<B, E>   tile;
  query_rows<B, E>   rows;      // one token per group
  buffer<index_t, B> of;        // [r]: the group of a cluster's tokens
  buffer<index_t, B> clusters;  // [groups]: that of a group
  buffer<float, B>   closed;    // [rows of groups]: weights of closed leaves of several tokens
  index_t            count = 0;
};

/// What a call makes for one KV head: its clusters, the chains of its leaves, their sums, and, chunk by chunk, the
/// groups of queries that read them.
template <cpu_backend B, class E>
struct kv_head_scratch {
  clusters           lists = {};
  leaf_chains<B>     chains;  // by keys only
  leaf_scratch<B>    sums;
  query_groups<B, E> groups;  // grouped queries only
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
