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
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Words of a table at most: 256 MiB.
inline constexpr std::int64_t largest_table = std::int64_t{1} << 26;

/// Words that a slice of queries may have in tables with columns for representatives, leaves or tokens. The longer the
/// sequence, the fewer in a slice: nothing is T x T. A backend may say otherwise.
template <class B>
inline constexpr std::int64_t table_words = largest_table;

/// Tiles of a segment of a row's keys: 512 keys. They decide how a row is rounded, for all numbers of queries alike.
template <class B>
inline constexpr index_t segment_tiles = 16;

/// With so many blocks of queries, or fewer, each segment has a block of its own; more fill half of the compute units.
template <class B>
inline constexpr index_t few_blocks = gfx942::compute_units / 2;

/// Of a sequence: its keys, and how many of its tokens ask.
struct sequence_sizes {
  index_t tokens, heads, kv_heads, dim;
  index_t asking = tokens;
  index_t sets   = 1;  // selections: one of all KV heads, or each KV head's own

  bool transposed = false;  // values
  bool paged      = false;

  bool growing = false;  // then `tokens` is how many there is room for, and where those that ask lie is not known

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

/// Of a sequence of `tokens` tokens.
constexpr index_t band_of(const attention_options& options, index_t group, index_t tokens) noexcept {
  return std::min(band_of(options, group), tokens);
}

/// Parts of `part` tokens that a call of `asking` tokens of a sequence that grows lies in at most, wherever it begins.
constexpr std::int64_t parts_of_call(index_t asking, index_t part) noexcept {
  return (std::int64_t{asking} - 2 + part) / part + 1;
}

/// Words that a row or a leaf has for a band in opened_leaves.
struct words_of_band {
  std::int64_t bits, lists;  // [waves of rows]; tokens, places, asked leaves

  constexpr words_of_band(index_t band, index_t group) noexcept
      : bits(std::int64_t{blocks_of_rows(band, group)} * waves_of_block),
        lists(2 + sizeof(asked_leaf) / sizeof(index_t)) {}
};

/// Bands whose opened leaves are there at a time: those of a call, or as many as there is room for.
template <class B>
constexpr index_t bands_of_slice(const attention_options& options, const sequence_sizes& sizes) noexcept {
  const index_t       band = band_of(options, sizes.group(), sizes.tokens);
  const words_of_band of(band, sizes.group());
  const std::int64_t  words = rounded_to_tiles(sizes.tokens) * (of.bits + of.lists) * sizes.kv_heads;
  const std::int64_t  all   = sizes.growing ? parts_of_call(sizes.asking, band)
                                            : (sizes.asking - 1) / band + 1;  // they begin with the first query
  return static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / words, 1, all));
}

/// Tokens of a part of the queries: of a chunk where they have near fields, else all up to `end`.
constexpr index_t tokens_of_part(const attention_options& options, index_t tokens, index_t end) noexcept {
  return detail::kinds_of(options.keys).near_field ? std::min(options.chunk, tokens) : end;
}

/// Blocks of queries, as many for each KV head; of a sequence that grows, at most.
CASCADA_INLINE index_t blocks_of(const attention_options& options, const sequence_sizes& sizes) noexcept {
  const index_t                first  = sizes.growing ? 0 : first_query(options, sizes.tokens, sizes.asking);
  const index_t                last   = first + sizes.asking;
  const query_tokens<bfloat16> asking = {
      .q        = {.tokens = sizes.asking, .heads = sizes.heads},
      .kv_heads = sizes.kv_heads,
      .part     = tokens_of_part(options, sizes.tokens, sizes.growing ? sizes.tokens : last),
      .first    = first,
      .last     = last};
  return (sizes.growing ? asking.most_turns() : asking.turns()) * sizes.kv_heads;
}

/// Segments of a row's keys at most, known without the data: all older tokens may be leaves. One where rows are not
/// cut: where all keys ask, or leaves open by mass.
template <class B>
constexpr index_t most_segments(const attention_options& options, const sequence_sizes& sizes) noexcept {
  const detail::key_kinds kinds = detail::kinds_of(options.keys);
  if (kinds.representatives || options.queries == query_set::grouped || detail::opens_by_mass(options)) return 1;
  const bool         every  = kinds.every_token || detail::opens_everything(options);
  const std::int64_t tokens = sizes.tokens, window = std::int64_t{options.window} + options.chunk;
  const std::int64_t seen = options.sliding_window ? std::int64_t{*options.sliding_window} + rows_of_block : tokens;
  const std::int64_t near =
      every ? std::min(tokens, seen) : std::min(tokens, window) + std::min(sizes.tokens, options.sink_tokens);
  const std::int64_t far   = detail::has_leaves(options) ? tokens : 0;
  const std::int64_t tiles = (rounded_to_tiles(near) + rounded_to_tiles(far)) / keys_of_tile;
  return static_cast<index_t>(std::max<std::int64_t>(1, (tiles + segment_tiles<B> - 1) / segment_tiles<B>));
}

template <class Scalar, class B>
struct attention_memory {
  index_t*            pool_rows    = nullptr;  // [T]: of tokens in pages
  index_t*            member_rows  = nullptr;  // [sets, T]: of representatives there
  Scalar*             values       = nullptr;  // [kv_heads, T, dim]: those that are transposed
  gathered_selections selections   = {};       // where each KV head has its own
  cluster_memory      clusters     = {};
  chain_memory        chains       = {};
  leaf_memory         leaves       = {};
  index_t             chunks       = 0;        // whose far fields are there at a time
  Scalar*             mean_keys    = nullptr;  // [kv_heads, T, dim]
  Scalar*             mean_values  = nullptr;
  Scalar*             mean_queries = nullptr;  // [heads, T, dim]; as many as keys
  std::uint16_t*      variances    = nullptr;  // [kv_heads, T, variance_parts]
  group_memory        groups       = {};
  float*              other_out    = nullptr;  // [queries, heads, dim]: the softmax to be merged
  float*              other_sums   = nullptr;  // [queries, heads]
  pair_counts         counts       = {};       // of a slice of representatives
  index_t             slice        = 0;        // representatives in it
  opened_leaves       opened       = {};       // of a slice of bands
  index_t             bands        = 0;        // in it
  key_segments        segments     = {};
  index_t             turns        = std::numeric_limits<index_t>::max();  // blocks of a KV head that a launch has

  /// Cuts the arrays that the options need off `from`.
  void cut(carver& from, const attention_options& options, const sequence_sizes& sizes) {
    const std::int64_t tokens = sizes.tokens, means = tokens * sizes.kv_heads * sizes.dim;
    const std::int64_t rows    = std::int64_t{sizes.asking} * sizes.heads;
    const bool         average = averages(options) && !sizes.growing;  // a state has its own
    const bool         counted = options.weighted && options.causal;
    if (sizes.sets > 1) cut_selections(from, sizes);
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
      const index_t ask         = far ? all - (sizes.tokens - sizes.asking) / options.chunk : 1;  // of the chunks
      leaves.sets               = detail::forms_by_keys(options) ? sizes.kv_heads : sizes.sets;
      const std::int64_t places = tokens * leaves.sets;
      chunks                    = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / (2 * places), 1, ask));
      from.cut(leaves.formed, places), from.cut(leaves.ranges, places), from.cut(leaves.count, leaves.sets);
      from.cut(leaves.far_rows, chunks * places), from.cut(leaves.far_sizes, chunks * places);
      from.cut(leaves.far_count, std::int64_t{chunks} * leaves.sets);
      if (detail::forms_by_keys(options)) cut_chains(from, sizes);
      from.cut(mean_keys, means), from.cut(mean_values, means);
      if (far && options.moments) from.cut(variances, tokens * sizes.kv_heads * variance_parts);
      if (options.queries == query_set::representatives) from.cut(mean_queries, rows * sizes.dim);
      if (options.queries == query_set::grouped) {
        from.cut(groups.asker, tokens * sizes.sets), from.cut(groups.asks, tokens * sizes.sets);
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
    const std::int64_t rows = std::int64_t{sizes.asking} * sizes.heads * count, dim = sizes.dim;
    const index_t      every = blocks_of(options, sizes);
    segments.tiles           = segment_tiles<B>;
    if (every <= few_blocks<B> && rows * (dim + 4) <= largest_table) {
      segments.blocks = count;
      from.cut(segments.kept, rows * (dim + 4)), from.cut(segments.counts, rows);
      return;
    }
    const std::int64_t of_turn = rows_of_block * (dim + 4) * sizes.kv_heads, all = every / sizes.kv_heads;
    turns = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / of_turn, 1, all));
    from.cut(segments.kept, turns * of_turn);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
