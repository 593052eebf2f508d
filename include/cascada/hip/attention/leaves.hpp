#pragma once
// Leaves on the device: a few members of a cluster each, and the far fields that are made of their older parts.
//
// What stands for a leaf is in tables (leaf_statistics.hpp), whose row m is of the leaf's members up to the one at
// place m of the clusters' `members`: every far field of the sequence is a choice of rows.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Places of members, [begin, end).
struct leaf_range {
  index_t begin, end;

  /// Of the leaves that places [from, end) are cut into, the one that begins at a place; empty where none does.
  CASCADA_DEVICE CASCADA_INLINE static leaf_range at(index_t place, index_t from, index_t end, index_t size) {
    const bool begins = place >= from && (place - from) % size == 0;
    return {place, !begins ? place : end - place < size ? end : place + size};
  }
};

/// The leaves of T tokens, by ascending first token, and the far fields of the chunks: those of all KV heads, or each
/// KV head's own.
struct leaf_memory {
  leaf_range* formed;     // [sets, T]: the leaf that a token is the first of; empty where it is none's
  leaf_range* ranges;     // [sets, T], `count` in use
  index_t*    count;      // [sets]: leaves
  index_t*    far_rows;   // [fields, T]: rows of the tables, one for each leaf older than the chunk's near field
  index_t*    far_count;  // [fields]: of some chunks, and of their sets

  index_t  sets = 1, first = 0;  // the first of those chunks
  index_t* far_sizes = nullptr;  // [fields, T]: of the leaves in far_rows, members before the edge

  /// The far field of a chunk and a set of leaves.
  CASCADA_DEVICE CASCADA_INLINE index_t field_of(index_t chunk, index_t set) const {
    return (chunk - first) * sets + set;
  }

  /// The set of a KV head, and a set's leaves.
  CASCADA_DEVICE CASCADA_INLINE index_t           set_of(index_t kv_head) const { return set_of_head(sets, kv_head); }
  CASCADA_DEVICE CASCADA_INLINE const leaf_range* ranges_of(index_t set, index_t tokens) const {
    return ranges + std::int64_t{set} * tokens;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
