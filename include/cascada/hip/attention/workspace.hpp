#pragma once
// The workspace of attention on the device: what a sequence of a given shape needs, cut from one allocation.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/chains.hpp"
#include "cascada/hip/attention/groups.hpp"
#include "cascada/hip/attention/operands.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Words that a slice of queries may have in tables with columns for representatives, leaves or tokens. The longer the
/// sequence, the fewer in a slice: nothing is T x T. A backend may say otherwise.
template <class B>
inline constexpr std::int64_t table_words = std::int64_t{1} << 26;

/// Of a sequence: its keys, and how many of its tokens ask.
struct sequence_sizes {
  index_t tokens, heads, kv_heads, dim;
  index_t asking = tokens;

  index_t group() const noexcept { return heads / kv_heads; }
};

/// The place of the first query: they are the last tokens. Not causal, they have places of their own.
constexpr index_t first_query(const attention_options& options, index_t tokens, index_t asking) noexcept {
  return options.causal ? tokens - asking : 0;
}

/// Whether keys are means: of leaves, or of whole clusters.
constexpr bool averages(const attention_options& options) noexcept {
  return detail::has_leaves(options) || detail::has_cluster_means(options);
}

/// Tokens of a band of queries, that read one list of opened tokens: as many whole tiles of a chunk, and whole bands to
/// a chunk, as a block of threads has rows for; one tile where that alone has more.
constexpr index_t band_of(const attention_options& options, index_t group) noexcept {
  const index_t tiles = options.chunk / options.tile, room = rows_of_block / group / options.tile;
  for (index_t count = std::min(tiles, room); count > 1; --count)
    if (tiles % count == 0) return count * options.tile;
  return options.tile;
}

template <class Scalar, class B>
struct attention_memory {
  cluster_memory clusters     = {};
  chain_memory   chains       = {};
  leaf_memory    leaves       = {};
  Scalar*        mean_keys    = nullptr;  // [kv_heads, T, dim]
  Scalar*        mean_values  = nullptr;
  Scalar*        mean_queries = nullptr;  // [heads, T, dim]; as many as keys
  std::uint16_t* variances    = nullptr;  // [kv_heads, T, variance_parts]
  group_memory   groups       = {};
  float*         other_out    = nullptr;  // [queries, heads, dim]: the softmax to be merged
  float*         other_sums   = nullptr;  // [queries, heads]
  pair_counts    counts       = {};       // of a slice of representatives
  index_t        slice        = 0;        // representatives in it
  opened_leaves  opened       = {};       // of a slice of bands
  index_t        bands        = 0;        // in it

  /// Cuts the arrays that the options need off `from`.
  void cut(carver& from, const attention_options& options, const sequence_sizes& sizes) {
    const std::int64_t tokens = sizes.tokens, means = tokens * sizes.kv_heads * sizes.dim;
    const std::int64_t rows    = std::int64_t{sizes.asking} * sizes.heads;
    const bool         average = averages(options), counted = options.weighted && options.causal;
    if (average || counted) from.cut(clusters.offsets, tokens + 1), from.cut(clusters.members, tokens);
    if (average) {
      const bool    far         = detail::has_leaves(options);
      const index_t chunks      = (sizes.tokens - 1) / options.chunk + 1;
      leaves.first              = far ? first_query(options, sizes.tokens, sizes.asking) / options.chunk : 0;
      leaves.sets               = detail::forms_by_keys(options) ? sizes.kv_heads : 1;
      const std::int64_t fields = far ? chunks - leaves.first : 1;
      const std::int64_t places = tokens * leaves.sets;
      from.cut(leaves.formed, places), from.cut(leaves.ranges, places), from.cut(leaves.count, leaves.sets);
      from.cut(leaves.far_rows, fields * places), from.cut(leaves.far_count, fields * leaves.sets);
      if (detail::forms_by_keys(options)) cut_chains(from, sizes);
      from.cut(mean_keys, means), from.cut(mean_values, means);
      if (far && options.moments) from.cut(variances, tokens * sizes.kv_heads * variance_parts);
      if (options.queries == query_set::representatives) from.cut(mean_queries, rows * sizes.dim);
      if (options.queries == query_set::grouped) {
        from.cut(groups.asker, tokens), from.cut(groups.asks, tokens), from.cut(groups.count, chunks);
        from.cut(other_out, rows * sizes.dim), from.cut(other_sums, rows);
      }
    }
    if (counted) cut_counts(from, tokens);
    if (detail::opens_by_mass(options)) cut_opened(from, options, sizes);
  }

 private:
  void cut_chains(carver& from, const sequence_sizes& sizes) {
    const std::int64_t tokens = sizes.tokens, all = tokens * sizes.kv_heads;
    from.cut(chains.begins, tokens), from.cut(chains.ends, tokens);
    from.cut(chains.norms, all), from.cut(chains.nearest, all), from.cut(chains.anchors, all);
    from.cut(chains.rounds, std::int64_t{chain_memory::ranges(sizes.tokens)} * sizes.kv_heads);
    from.cut(chains.sizes, all), from.cut(chains.offsets, all + sizes.kv_heads), from.cut(chains.members, all);
  }

  void cut_counts(carver& from, std::int64_t tokens) {
    counts.stride   = (tokens + 31) / 32 * 32;
    const auto room = std::max<std::int64_t>(tokens, 32);
    slice           = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / counts.stride, 32, room));
    from.cut(counts.logs, slice * counts.stride);
  }

  void cut_opened(carver& from, const attention_options& options, const sequence_sizes& sizes) {
    constexpr std::int64_t words_of_lists = 2 + sizeof(asked_leaf) / sizeof(index_t);  // tokens, places, asked leaves
    const index_t          tokens = sizes.tokens, group = sizes.group();
    const index_t          band   = std::min(band_of(options, group), tokens);
    const std::int64_t     blocks = (std::int64_t{band} * group + rows_of_block - 1) / rows_of_block;
    const std::int64_t     bits   = blocks * opened_leaves::waves;
    opened.stride                 = (std::int64_t{tokens} + 31) / 32 * 32;
    const std::int64_t words      = opened.stride * (bits + words_of_lists) * sizes.kv_heads;
    const index_t      all        = (sizes.asking - 1) / band + 1;  // they begin with the first query
    bands                         = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / words, 1, all));
    const std::int64_t lists = std::int64_t{bands} * sizes.kv_heads, places = lists * opened.stride;
    from.cut(opened.rows, places * bits), from.cut(opened.tokens, places), from.cut(opened.places, places);
    from.cut(opened.asked, places), from.cut(opened.count, lists);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
