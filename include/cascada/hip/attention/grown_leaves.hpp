#pragma once
// Leaves of a sequence that grows: chains, linked token by token, and their leaves by ascending first token. Nothing in
// them moves when tokens follow, and each token's row of the tables is that of its leaf's members up to it.

#include <cstdint>

#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/attention/selection_sets.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Links of as many tokens as there is room for, of which the first ones have joined; sinks have none: those of all KV
/// heads, or each KV head's own. `next` and `tail` are zero at first.
struct grown_leaves {
  index_t* chain;      // [sets, room]: the representative or the anchor whose chain it is
  index_t* before;     // [sets, room]: the chain's member before it; negative: none
  index_t* next;       // [sets, room]: the one after it; 0: none yet
  index_t* size;       // [sets, room]: members of its leaf up to it
  index_t* tail;       // [sets, room]: of what names a chain, the chain's last member
  index_t* first;      // [sets, room]: the leaves' first tokens
  index_t* count;      // [sets]: leaves
  index_t* older;      // [sets]: those before the call at hand
  index_t* far_rows;   // [fields, sets, room]: rows of the tables, which have one for each token
  index_t* far_sizes;  // [fields, sets, room]: members of these leaves before the edge
  index_t* far_count;  // [fields, sets]

  index_t sets = 1;

  /// The links of one set, of as many tokens as there is room for; not far fields.
  CASCADA_DEVICE CASCADA_INLINE grown_leaves of(index_t set, index_t room) const {
    const std::int64_t from = std::int64_t{set} * room;
    return {chain + from, before + from, next + from, size + from, tail + from, first + from,
            count + set,  older + set,   far_rows,    far_sizes,   far_count};
  }

  /// The set of a KV head.
  CASCADA_DEVICE CASCADA_INLINE index_t set_of(index_t kv_head) const { return set_of_head(sets, kv_head); }

  /// The member of the same leaf after this one, if that is below `end`; else negative. Of one set.
  CASCADA_DEVICE CASCADA_INLINE index_t follower(index_t member, index_t end) const {
    const index_t other = next[member];
    return other > 0 && other < end && size[other] > 1 ? other : -1;
  }
};

/// Clusters of the tokens that have joined: one selection's, where the caller has it, or those of each KV head's own.
struct grown_clusters {
  const index_t* rep;        // of the first KV head, by token
  std::int64_t   apart = 0;  // from KV head to KV head; 0: all have these

  CASCADA_DEVICE CASCADA_INLINE const index_t* of_head(index_t kv_head) const { return rep + kv_head * apart; }
};

/// What a sequence that grows keeps of the KV heads' own selections, side by side.
struct grown_selections {
  index_t* rep;    // [sets, room], of the tokens that have joined
  index_t* count;  // [sets]: r of the call at hand; negative: it has failed

  index_t sets = 0;  // none where all KV heads have one
};

/// What chains by keys of a sequence that grows go on from, in each KV head: their anchors, in token order, whose place
/// is their token.
struct grown_chains {
  chain_anchor* anchors;  // [kv_heads, room], `count` in use
  index_t*      count;    // [kv_heads]
  covering_row* nearest;  // [kv_heads, chain_batch]: of the tokens at hand, the nearest of the anchors before
  float*        norms;    // [kv_heads, chain_batch]: of their keys; 0: a chain of its own

  index_t sets = 0;  // KV heads; none where chains are clusters

  /// Those of one KV head, of as many tokens as there is room for.
  CASCADA_DEVICE CASCADA_INLINE grown_chains of(index_t head, index_t room) const {
    const std::int64_t at_hand = std::int64_t{head} * chain_batch;
    return {anchors + std::int64_t{head} * room, count + head, nearest + at_hand, norms + at_hand};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
