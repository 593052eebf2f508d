#pragma once
// Grouped queries: the tokens of a chunk that share a representative ask the far field once.

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/chunk.hpp"
#include "cascada/cpu/attention/far_field.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/workspace.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The groups of a chunk: its tokens that share a representative. Listed by first token.
template <cpu_backend B, class E>
void list_groups(attention_workspace<B, E>& space, index_t kv_head, const chunk& now) noexcept {
  kv_head_scratch<B, E>& own   = space.scratch_of(kv_head);
  const clusters&        lists = own.lists;
  own.groups                   = 0;
  for (index_t t = now.begin; t < now.end; ++t) {
    const index_t cluster = lists.slots.data()[t];
    if (lists.members.data()[lists.first_from(cluster, now.begin)] != t) continue;
    own.asks[own.groups]  = cluster;
    own.group_of[cluster] = own.groups++;
  }
}

/// Groups [first, first + count) ask the far field with the query of their first token.
template <cpu_backend B, class E, class Sequence>
void attend_groups(const Sequence& sequence, const attention_options& options, index_t kv_head, const chunk& now,
                   index_t first, index_t count, attention_workspace<B, E>& space, index_t worker) noexcept {
  kv_head_state<B, E>&   head = space.head(kv_head);
  kv_head_scratch<B, E>& own  = space.scratch_of(kv_head);
  const query_rows<B, E> tile = own.group_rows.part(first, count);
  clear(tile);
  for (index_t i = 0; i < count; ++i) {
    const index_t asking = own.lists.first_from(own.asks[first + i], now.begin);
    mean_queries(sequence, kv_head, own.lists.members.data() + asking, 1, tile.part(i, 1));
  }
  attend_leaves(sequence, options, kv_head, now.begin, tile, head, space.far_fields.data()[worker],
                space.workers.data()[worker], own.closed.data() + first * tile.group);
}

/// Rows of tokens from `first` on take in what their groups got.
template <cpu_backend B, class E>
void take_from_groups(const kv_head_scratch<B, E>& own, index_t first, const query_rows<B, E>& tile,
                      far_field_scratch<B>& far) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    const index_t group = own.group_of[own.lists.slots.data()[first + row / tile.group]];
    const index_t asked = group * tile.group + row % tile.group;
    merge_row(tile, row, own.group_rows, asked);
    const float drop = own.group_rows.maxima[asked] - tile.maxima[row];
    far.counts.mass += closed_share<B>(own.closed[asked], drop, tile.sum(row));
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
