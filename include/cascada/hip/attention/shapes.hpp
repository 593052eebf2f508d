#pragma once
// What follows from the shape of a sequence and the options: bands, parts, blocks of queries, segments.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/block_rows.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/attention/operands.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/base/device.hpp"

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

/// Of a sequence: its keys, and how many of its tokens have queries.
struct sequence_sizes {
  index_t tokens, heads, kv_heads, dim;
  index_t queries = tokens;
  index_t sets    = 1;  // selections: one of all KV heads, or each KV head's own

  bool transposed = false;  // values
  bool paged      = false;

  bool growing = false;  // then `tokens` is how many there is room for, and where the queries lie is not known

  index_t group() const noexcept { return heads / kv_heads; }
};

/// The place of the first query: they are the last tokens. Not causal, they have places of their own.
constexpr index_t first_query(const attention_options& options, index_t tokens, index_t queries) noexcept {
  return options.causal ? tokens - queries : 0;
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

/// Parts of `part` tokens that a call of `tokens` tokens of a sequence that grows lies in at most, wherever it begins.
constexpr std::int64_t parts_of_call(index_t tokens, index_t part) noexcept {
  return (std::int64_t{tokens} - 2 + part) / part + 1;
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
  const std::int64_t  all   = sizes.growing ? parts_of_call(sizes.queries, band)
                                            : (sizes.queries - 1) / band + 1;  // they begin with the first query
  return static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / words, 1, all));
}

/// Tokens of a part of the queries: of a band where leaves open by mass, of a chunk where there are near fields, else
/// all up to `end`.
constexpr index_t tokens_of_part(const attention_options& options, index_t group, index_t tokens,
                                 index_t end) noexcept {
  if (detail::opens_by_mass(options)) return band_of(options, group, tokens);
  return detail::kinds_of(options.keys).near_field ? std::min(options.chunk, tokens) : end;
}

/// Blocks of queries, as many for each KV head; of a sequence that grows, at most.
CASCADA_INLINE index_t blocks_of(const attention_options& options, const sequence_sizes& sizes) noexcept {
  const index_t                first = sizes.growing ? 0 : first_query(options, sizes.tokens, sizes.queries);
  const index_t                last  = first + sizes.queries;
  const query_tokens<bfloat16> all   = {
        .q        = {.tokens = sizes.queries, .heads = sizes.heads},
        .kv_heads = sizes.kv_heads,
        .part     = tokens_of_part(options, sizes.group(), sizes.tokens, sizes.growing ? sizes.tokens : last),
        .first    = first,
        .last     = last};
  return (sizes.growing ? all.most_blocks() : all.blocks()) * sizes.kv_heads;
}

/// Segments of a row's keys at most, known without the data: all older tokens may be leaves. By mass, leaves of two
/// may all be open, and their tokens lie behind places of the band's later ones, or begin with a segment. One where
/// rows are not cut.
template <class B>
constexpr index_t most_segments(const attention_options& options, const sequence_sizes& sizes) noexcept {
  const detail::key_kinds kinds = detail::kinds_of(options.keys);
  if (kinds.representatives || options.queries == query_set::grouped) return 1;
  const bool         every  = kinds.every_token || detail::opens_everything(options);
  const std::int64_t tokens = sizes.tokens, window = std::int64_t{options.window} + options.chunk;
  const bool         opens = detail::opens_by_mass(options);
  const std::int64_t seen  = options.sliding_window ? std::int64_t{*options.sliding_window} + rows_of_block : tokens;
  const std::int64_t near =
      every ? std::min(tokens, seen)
            : std::min(tokens + (opens ? band_of(options, sizes.group(), sizes.tokens) : 0), window) +
                  std::min(sizes.tokens, options.sink_tokens);
  const std::int64_t far   = !detail::has_leaves(options) ? 0 : opens ? tokens + tokens / 2 : tokens;
  const std::int64_t tiles = (rounded_to_tiles(near) + rounded_to_tiles(far)) / keys_of_tile;
  const std::int64_t all   = (tiles + segment_tiles<B> - 1) / segment_tiles<B> + (opens ? 1 : 0);
  return static_cast<index_t>(std::max<std::int64_t>(1, all));
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
