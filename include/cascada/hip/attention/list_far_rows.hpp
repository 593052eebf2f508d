#pragma once
// Far fields: of which leaves, and of how much of them, those of some chunks are made.

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaves.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Which rows make up the far fields of some chunks.
struct list_far_rows {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  cluster_memory clusters;
  leaf_memory    leaves;
  index_t        tokens, chunk, window;
  index_t        chunks;  // from leaves.first on; 0: one field, of all tokens

  /// One for each of the chunks and set of leaves.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t fields() const { return (chunks > 0 ? chunks : 1) * leaves.sets; }
  index_t                                    grid() const { return fields() * ((tokens + threads - 1) / threads); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t           field = gpu.block() % fields(), j = gpu.block() / fields() * threads + gpu.thread();
    const index_t           set = field % leaves.sets, count = leaves.count[set];
    const cluster_memory    own  = clusters.members_of_set(set, tokens);
    const index_t           edge = chunks > 0 ? edge_of((leaves.first + field / leaves.sets) * chunk, window) : tokens;
    const leaf_range* const ranges = leaves.ranges_of(set, tokens);
    const auto              first  = [&](index_t leaf) { return own.members[ranges[leaf].begin]; };
    if (j == 0 && (count == 0 || first(0) >= edge)) leaves.far_count[field] = 0;
    if (j >= count || first(j) >= edge) return;
    // First tokens ascend: older leaves are the first.
    if (j + 1 == count || first(j + 1) >= edge) leaves.far_count[field] = j + 1;
    const std::int64_t to  = std::int64_t{field} * tokens + j;
    const index_t      row = own.place_from(ranges[j].begin, ranges[j].end, edge) - 1;
    leaves.far_rows[to] = row, leaves.far_sizes[to] = row - ranges[j].begin + 1;
  }
};

/// The same of a sequence that grows, for the chunks of a slice. One that is there from the call before stays.
struct list_grown_rows {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens       of;
  grown_leaves       leaves;
  const query_range* slice;
  index_t            room, chunk, window;
  index_t            chunks;  // of a slice at most

  /// One for each of the chunks and set of leaves.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t fields() const { return chunks * leaves.sets; }
  index_t                                    grid() const { return fields() * ((room + threads - 1) / threads); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t field = gpu.block() % fields(), j = gpu.block() / fields() * threads + gpu.thread();
    const index_t ahead = field / leaves.sets;
    if (of.state->valid < 0 || (ahead == 0 && slice->listed)) return;
    const index_t number = slice->field + ahead;
    if (number > (slice->last - 1) / chunk) return;
    const grown_leaves own   = leaves.of(field % leaves.sets, room);
    const index_t      count = *own.count, edge = edge_of(number * chunk, window);
    if (j == 0 && (count == 0 || own.first[0] >= edge)) leaves.far_count[field] = 0;
    if (j >= count || own.first[j] >= edge) return;
    if (j + 1 == count || own.first[j + 1] >= edge) leaves.far_count[field] = j + 1;
    index_t row = own.first[j];
    for (index_t next = row; next >= 0; next = own.follower(row, edge)) row = next;
    const std::int64_t to = std::int64_t{field} * room + j;
    leaves.far_rows[to] = row, leaves.far_sizes[to] = own.size[row];
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
