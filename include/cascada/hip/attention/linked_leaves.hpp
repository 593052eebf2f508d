#pragma once
// Where open_leaves finds the leaves of a sequence that grows.

#include <cstdint>

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/attention/remembered_leaves.hpp"
#include "cascada/hip/attention/token_rows.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Leaves of a sequence that grows, whose queries begin anywhere: which leaves were open is known of earlier tokens.
template <class Place = rows_in_order>
struct linked_leaves {
  static constexpr bool remembers = true;

  grown_tokens       call;
  grown_leaves       links;
  const query_range* slice;
  remembered_leaves  remembered;

  [[no_unique_address]] Place row_of = {};

  CASCADA_DEVICE CASCADA_INLINE bool failed(index_t) const { return call.state->valid < 0; }

  CASCADA_DEVICE CASCADA_INLINE index_t first() const { return slice->first; }
  CASCADA_DEVICE CASCADA_INLINE index_t last() const { return slice->last; }

  CASCADA_DEVICE CASCADA_INLINE index_t field_of(index_t chunk, index_t kv_head) const {
    return (chunk - slice->field) * links.sets + links.set_of(kv_head);
  }
  CASCADA_DEVICE CASCADA_INLINE index_t count_of(index_t field) const { return links.far_count[field]; }
  CASCADA_DEVICE CASCADA_INLINE index_t size_of(index_t field, index_t place) const {
    return links.far_sizes[at(field, place)];
  }

  template <class Put>
  CASCADA_DEVICE CASCADA_INLINE void for_members(index_t kv_head, index_t field, index_t place, index_t size,
                                                 const Put& put) const {
    index_t token = links.far_rows[at(field, place)];
    for (index_t m = size; m-- > 0; token = links.before[at(links.set_of(kv_head), token)]) put(m, row_of(token));
  }

  /// Whether the call remembers which leaves are open in a band.
  CASCADA_DEVICE CASCADA_INLINE bool is_told_of(index_t number, index_t band) const {
    return number >= first_remembered((call.state->tokens - 1) / band);
  }

 private:
  /// Of a leaf or a token among those of all far fields at hand, or sets. 32 bits do, as tables of more have keys and
  /// values of 1 TiB; 64 take scalar registers that are wanting.
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t at(index_t number, index_t place) const {
    return static_cast<std::uint32_t>(number) * static_cast<std::uint32_t>(remembered.room) +
           static_cast<std::uint32_t>(place);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
