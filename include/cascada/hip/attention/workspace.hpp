#pragma once
// The workspace of attention on the device: what a sequence of a given shape needs, cut from one allocation.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/groups.hpp"
#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/attention/operands.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/attention/segments.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/attention/shapes.hpp"
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <class Scalar, class B>
struct attention_memory {
  index_t*            pool_rows    = nullptr;  // [tokens]: of those in pages
  index_t*            member_rows  = nullptr;  // [sets, T]: of representatives there
  Scalar*             values       = nullptr;  // [kv_heads, T, dim]: those that are transposed
  gathered_selections selections   = {};       // where each KV head has its own
  cluster_memory      clusters     = {};
  chain_memory        chains       = {};
  leaf_memory         leaves       = {};
  index_t             chunks       = 0;        // whose far fields are there at a time
  Scalar*             mean_keys    = nullptr;  // [kv_heads, tokens, dim]
  Scalar*             mean_values  = nullptr;
  Scalar*             mean_queries = nullptr;  // [heads, T, dim]; as many as keys
  std::uint16_t*      variances    = nullptr;  // [kv_heads, tokens, variance_parts]
  group_memory        groups       = {};
  float*              other_out    = nullptr;  // [queries, heads, dim]: the softmax to be merged
  float*              other_sums   = nullptr;  // [queries, heads]
  pair_counts         counts       = {};       // of a slice of representatives
  index_t             slice        = 0;        // representatives in it
  opened_leaves       opened       = {};       // of a slice of bands
  index_t             bands        = 0;        // in it
  key_segments        segments     = {};
  index_t             blocks       = std::numeric_limits<index_t>::max();  // blocks of a KV head that a launch has

  /// Cuts the arrays that the options need off `from`.
  void cut(carver& from, const attention_options& options, const sequence_sizes& sizes) {
    const std::int64_t tokens = sizes.tokens, means = tokens * sizes.kv_heads * sizes.dim;
    const std::int64_t rows    = std::int64_t{sizes.queries} * sizes.heads;
    const bool         average = averages(options) && !sizes.growing;  // a state has its own
    const bool         counted = options.weighted && options.causal;
    if (sizes.sets > 1 && !sizes.growing) cut_selections(from, sizes);
    if (sizes.transposed) from.cut(values, means);
    if (sizes.paged) from.cut(pool_rows, tokens);
    if (sizes.paged && detail::kinds_of(options.keys).representatives && !average)
      from.cut(member_rows, tokens * sizes.sets);
    clusters.sets = sizes.sets;
    if (average || counted)
      from.cut(clusters.offsets, (tokens + 1) * sizes.sets), from.cut(clusters.members, tokens * sizes.sets);
    if (average) {
      const bool    far         = detail::has_leaves(options);
      const index_t all         = (sizes.tokens - 1) / options.chunk + 1;
      const index_t needed      = far ? all - (sizes.tokens - sizes.queries) / options.chunk : 1;  // of the chunks
      leaves.sets               = detail::forms_by_keys(options) ? sizes.kv_heads : sizes.sets;
      const std::int64_t places = tokens * leaves.sets;
      chunks = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / (2 * places), 1, needed));
      from.cut(leaves.formed, places), from.cut(leaves.ranges, places), from.cut(leaves.count, leaves.sets);
      from.cut(leaves.far_rows, chunks * places), from.cut(leaves.far_sizes, chunks * places);
      from.cut(leaves.far_count, std::int64_t{chunks} * leaves.sets);
      if (detail::forms_by_keys(options)) cut_chains(from, sizes);
      from.cut(mean_keys, means), from.cut(mean_values, means);
      if (far && options.moments) from.cut(variances, tokens * sizes.kv_heads * variance_parts);
      if (options.queries == query_set::representatives) from.cut(mean_queries, rows * sizes.dim);
      if (options.queries == query_set::grouped) {
        from.cut(groups.leader, tokens * sizes.sets), from.cut(groups.leaders, tokens * sizes.sets);
        from.cut(groups.count, std::int64_t{all} * sizes.sets);
        from.cut(other_out, rows * sizes.dim), from.cut(other_sums, rows);
      }
    }
    if (counted) cut_counts(from, sizes);
    if (detail::opens_by_mass(options)) cut_opened(from, options, sizes);
    if (const index_t count = most_segments<B>(options, sizes); count > 1) cut_segments(from, options, sizes, count);
  }

 private:
  void cut_chains(carver& from, const sequence_sizes& sizes) {
    const std::int64_t tokens = sizes.tokens, all = tokens * sizes.kv_heads;
    chains.sets = sizes.sets;
    from.cut(chains.begins, tokens * sizes.sets), from.cut(chains.ends, tokens * sizes.sets);
    from.cut(chains.norms, all), from.cut(chains.nearest, all), from.cut(chains.anchors, all);
    from.cut(chains.rounds, std::int64_t{chain_memory::ranges(sizes.tokens)} * sizes.kv_heads);
    from.cut(chains.sizes, all), from.cut(chains.offsets, all + sizes.kv_heads), from.cut(chains.members, all);
  }

  void cut_counts(carver& from, const sequence_sizes& sizes) {
    counts.stride              = rounded_to_tiles(sizes.tokens);
    const auto         room    = std::max<std::int64_t>(sizes.tokens, 32);
    const std::int64_t columns = counts.stride * sizes.sets;
    slice = counts.rows = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / columns, 32, room));
    from.cut(counts.logs, slice * columns);
  }

  void cut_selections(carver& from, const sequence_sizes& sizes) {
    const std::int64_t places = std::int64_t{sizes.tokens} * sizes.sets;
    from.cut(selections.indices, places), from.cut(selections.rep, places), from.cut(selections.counts, places);
    from.cut(selections.count, sizes.sets);
  }

  void cut_opened(carver& from, const attention_options& options, const sequence_sizes& sizes) {
    const index_t      band  = band_of(options, sizes.group(), sizes.tokens);
    const std::int64_t bits  = words_of_band(band, sizes.group()).bits;
    opened.stride            = rounded_to_tiles(sizes.tokens);
    bands                    = bands_of_slice<B>(options, sizes);
    const std::int64_t lists = std::int64_t{bands} * sizes.kv_heads, places = lists * opened.stride;
    from.cut(opened.rows, places * bits), from.cut(opened.tokens, places), from.cut(opened.places, places);
    from.cut(opened.asked, places), from.cut(opened.count, lists);
  }

  /// For few queries room for all segments of their rows; for many what a slice of blocks has so far.
  void cut_segments(carver& from, const attention_options& options, const sequence_sizes& sizes, index_t count) {
    const std::int64_t rows = std::int64_t{sizes.queries} * sizes.heads * count, floats = kept_floats(sizes.dim);
    const index_t      every = blocks_of(options, sizes);
    segments.tiles           = segment_tiles<B>;
    if (every <= few_blocks<B> && rows * floats <= largest_table) {
      segments.blocks = count;
      from.cut(segments.kept, rows * floats), from.cut(segments.counts, rows);
      return;
    }
    const std::int64_t of_block = rows_of_block * floats * sizes.kv_heads, all = every / sizes.kv_heads;
    blocks = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / of_block, 1, all));
    from.cut(segments.kept, blocks * of_block);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
