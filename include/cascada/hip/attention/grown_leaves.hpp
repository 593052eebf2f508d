#pragma once
// Leaves of a sequence that grows: chains, linked token by token, and their leaves by ascending first token. Nothing in
// them moves when tokens follow, and each token's row of the tables is that of its leaf's members up to it.

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Links of T tokens, of which the first ones have joined; sinks have none. `next` and `tail` are zero at first.
struct grown_leaves {
  index_t* chain;      // [T]: the representative whose chain it is
  index_t* before;     // [T]: the chain's member before it; negative: none
  index_t* next;       // [T]: the one after it; 0: none yet
  index_t* size;       // [T]: members of its leaf up to it
  index_t* tail;       // [T]: of a representative, the last member of its chain
  index_t* first;      // [T]: the leaves' first tokens
  index_t* far_rows;   // [fields, T]: rows of the tables, which have one for each token
  index_t* far_sizes;  // [fields, T]: members of these leaves before the edge
  index_t* far_count;  // [fields]

  /// The member of the same leaf after this one, if that is below `end`; else negative.
  CASCADA_DEVICE CASCADA_INLINE index_t follower(index_t member, index_t end) const {
    const index_t other = next[member];
    return other > 0 && other < end && size[other] > 1 ? other : -1;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
