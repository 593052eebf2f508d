#pragma once
// Leaves that are open, for bands of queries: what asks, and what is read instead.

#include <cstdint>

#include "cascada/hip/attention/block_rows.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// How a band's rows ask for a leaf.
struct asked_leaf {
  index_t asker;   // the first of the band's tokens that does
  index_t before;  // members of leaves before it, of those that a wave has and the same token asks for first
};

/// Leaves that open for some queries, which then see their tokens instead. Queries come in bands: whole tiles that
/// share a list of opened tokens; whole bands make up a chunk.
struct opened_leaves {
  std::uint32_t* rows;  // [blocks of queries, kv_heads, waves, stride]: of each leaf, a bit for each of a wave's rows
  index_t*     tokens;  // [bands, kv_heads, stride], `count` in use: rows of the members of leaves that some row opens
  index_t*     places;  // the same: of their leaves
  index_t*     count;   // [bands, kv_heads]
  asked_leaf*  asked;   // [bands, kv_heads, stride], of leaves
  std::int64_t stride;  // at least the number of leaves, and of their members
  index_t      chunk;   // tokens that have a far field in common

  CASCADA_DEVICE CASCADA_INLINE std::uint32_t* rows_of(index_t block, index_t wave) const {
    return rows + (std::int64_t{block} * waves_of_block + wave) * stride;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
