#pragma once
// Where open_leaves finds the leaves of a call that makes them all.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/attention/token_rows.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Leaves that a call makes, whose queries begin with a band.
template <class Place = rows_in_order>
struct formed_leaves {
  static constexpr bool remembers = false;

  selection_sets layer;
  cluster_memory clusters;
  leaf_memory    formed;
  index_t        tokens;      // T
  index_t        begin, end;  // tokens [begin, end) have queries

  [[no_unique_address]] Place row_of = {};

  CASCADA_DEVICE CASCADA_INLINE bool failed(index_t kv_head) const { return layer.of_head(kv_head).failed(); }

  CASCADA_DEVICE CASCADA_INLINE index_t first() const { return begin; }
  CASCADA_DEVICE CASCADA_INLINE index_t last() const { return end; }

  /// The number of a KV head's far field, of how many leaves it is, and how many members each has there.
  CASCADA_DEVICE CASCADA_INLINE index_t field_of(index_t chunk, index_t kv_head) const {
    return formed.field_of(chunk, formed.set_of(kv_head));
  }
  CASCADA_DEVICE CASCADA_INLINE index_t count_of(index_t field) const { return formed.far_count[field]; }
  CASCADA_DEVICE CASCADA_INLINE index_t size_of(index_t field, index_t place) const {
    return formed.far_sizes[std::int64_t{field} * tokens + place];
  }

  /// Calls put(m, row) for the members m < size of a leaf.
  template <class Put>
  CASCADA_DEVICE CASCADA_INLINE void for_members(index_t kv_head, index_t field, index_t place, index_t size,
                                                 const Put& put) const {
    const index_t        last   = formed.far_rows[std::int64_t{field} * tokens + place];
    const index_t* const member = clusters.members_of_set(formed.set_of(kv_head), tokens).members + (last - size + 1);
    for (index_t m = 0; m < size; ++m) put(m, row_of(member[m]));
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
