#pragma once
// What attention knows of one KV head, and what a call makes for it.

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention/asked_leaves.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/base/buffer.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// One KV head's leaves.
template <cpu_backend B, class E>
struct kv_head_state {
  leaf_summaries<B, E> leaves;
  asked_leaves<B>      asked;    // in sequences that grow
  chain_leaders<B>     leaders;  // there, by keys: all that is kept of chains between calls
};

/// What a call makes for one KV head: its clusters, the chains of its leaves, their sums, and the groups of queries
/// that ask them.
template <cpu_backend B, class E>
struct kv_head_scratch {
  clusters           lists = {};
  leaf_chains<B>     chains;  // by keys only
  leaf_scratch<B>    sums;
  query_tile<B, E>   group_tile;
  query_rows<B, E>   group_rows;  // one token per group
  buffer<index_t, B> group_of;    // [r]: the group of a cluster's tokens in this chunk
  buffer<index_t, B> asks;        // [groups]: the cluster of a group
  buffer<float, B>   closed;      // [rows of groups]: weights of closed leaves of several tokens
  index_t            groups = 0;
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
