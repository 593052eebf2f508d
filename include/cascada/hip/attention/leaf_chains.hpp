#pragma once
// Chains by keys on the device: within a cluster, which tokens have keys that one leaf may stand for.
//
// As cpu/attention/leaf_chains.hpp says, token for token: each key joins the chain whose anchor, the chain's first key,
// covers it and is nearest; one that no anchor covers begins a chain and becomes one. Sums of the matrix units tell
// which keys may cover which, with the margin of base/margin.hpp; verdicts near the threshold, and which anchor is
// nearest, are the canonical product's.
//
//   begin_chains  norms of all keys
//   find_anchors  of the keys that no anchor covers, the first ones in order: which of them are anchors
//   meet_anchors  later keys meet those
//   order_chains  (chain_members.hpp) members chain by chain, which leaves are cut from
//
// What is sequential are anchors, not tokens. A key that no earlier anchor covers can be told to be one from the keys
// before it that none covers either, so a batch of them is settled at a time, wherever in the cluster they lie; all
// later keys meet the new anchors side by side. Clusters are taken together that begin in the same `chain_batch` places
// of the clusters' members: a range. Each round of the two launches settles a whole batch of every range, or all that
// is left of it. So T / chain_batch rounds are enough, whatever the data, and are known from T alone. Those that find
// nothing left read a few words a key.
//
// Cost, of n keys and a anchors in a cluster: n a d products of the matrix units, on all compute units, but for batch a
// d by one; and d products in order for each key and anchor that covers it. A block walks over a batch in a few
// instructions an anchor and a barrier a wave. KV heads and clusters go side by side.

#include <cstdint>

#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/covering_row.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Keys that are settled at a time: a block has a thread for each.
inline constexpr index_t chain_batch = 512;

/// The first key of a chain, that others may join.
struct chain_anchor {
  index_t place, token;  // among the clusters' members; there
  float   norm;

  CASCADA_HOST_DEVICE CASCADA_INLINE friend constexpr bool operator<(const chain_anchor& key, index_t other) {
    return key.place < other;
  }
};

/// How far a range of clusters is.
struct chain_round {
  index_t next;         // no key before this place waits to be settled
  index_t count, from;  // of anchors that are new; keys from this place on have not met them
};

/// Chains of T keys in each KV head; by place, unless it says otherwise.
struct chain_memory {
  index_t*      begins;   // [sets, T]: where the cluster begins
  index_t*      ends;     // [sets, T]: and ends
  float*        norms;    // [kv_heads, T]; 0: a chain of its own
  covering_row* nearest;  // [kv_heads, T]: anchors found so far; of a key that begins a chain, its own place
  chain_anchor* anchors;  // [kv_heads, T]: from the first place of each range on, those that are new
  chain_round*  rounds;   // [kv_heads, ranges]
  index_t*      sizes;    // [kv_heads, T]: members of the chain that begins here
  index_t*      offsets;  // [kv_heads, T + 1]: where its members begin
  index_t*      members;  // [kv_heads, T]: tokens, chain by chain

  index_t sets = 1;  // of clusters: those of all KV heads, or each KV head's own

  /// The arrays of one KV head.
  CASCADA_DEVICE CASCADA_INLINE chain_memory of(index_t head, index_t tokens) const {
    const std::int64_t from = std::int64_t{head} * tokens, of_cluster = std::int64_t{set_of_head(sets, head)} * tokens;
    return {begins + of_cluster, ends + of_cluster,     norms + from,
            nearest + from,      anchors + from,        rounds + head * ranges(tokens),
            sizes + from,        offsets + from + head, members + from};
  }

  /// Clusters that are taken together: those that begin in the same places.
  CASCADA_HOST_DEVICE CASCADA_INLINE static constexpr index_t ranges(index_t tokens) {
    return (tokens - 1) / chain_batch + 1;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
