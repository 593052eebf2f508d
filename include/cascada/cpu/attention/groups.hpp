#pragma once
// Grouped queries: the tokens of a chunk that share a representative read the far field once.

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/chunk.hpp"
#include "cascada/cpu/attention/far_field.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/workspace.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The groups of a chunk: its tokens that share a representative.
template <cpu_backend B, class E>
void list_groups(const clusters& lists, const chunk& now, query_groups<B, E>& groups) noexcept {
  groups.count = 0;
  for (index_t t = now.begin; t < now.end; ++t) {
    const index_t cluster = lists.cluster_of.data()[t];
    if (lists.members.data()[lists.first_from(cluster, now.begin)] != t) continue;
    groups.clusters[groups.count] = cluster;
    groups.of[cluster]            = groups.count++;
  }
}

/// Groups [first, first + count) read the far field with the query of their first token.
template <cpu_backend B, class E, class Sequence>
void attend_groups(const Sequence& sequence, const attention_options& options, index_t kv_head, const chunk& now,
                   index_t first, index_t count, const clusters& lists, query_groups<B, E>& groups,
                   kv_head_state<B, E>& head, far_field_scratch<B>& far, attention_scratch<B, E>& scratch) noexcept {
  const query_rows<B, E> tile = groups.rows.part(first, count);
  clear(tile);
  for (index_t i = 0; i < count; ++i) {
    const index_t leader = lists.first_from(groups.clusters[first + i], now.begin);
    mean_queries(sequence, kv_head, lists.members.data() + leader, 1, tile.part(i, 1));
  }
  attend_leaves(sequence, options, kv_head, now.begin, tile, head, far, scratch,
                groups.closed.data() + first * tile.group);
}

/// Rows of tokens from `first` on take in what their groups got.
template <cpu_backend B, class E>
void take_from_groups(const clusters& lists, const query_groups<B, E>& groups, index_t first,
                      const query_rows<B, E>& tile, far_field_scratch<B>& far) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    const index_t number = groups.of[lists.cluster_of.data()[first + row / tile.group]];
    const index_t own    = number * tile.group + row % tile.group;
    merge_row(tile, row, groups.rows, own);
    const float drop = groups.rows.maxima[own] - tile.maxima[row];
    far.counts.mass += closed_share<B>(groups.closed[own], drop, tile.sum(row));
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
