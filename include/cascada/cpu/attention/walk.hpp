#pragma once
// Query rows on their way over keys, block by block: packed, or where they lie.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/in_place.hpp"
#include "cascada/cpu/attention/packing.hpp"
#include "cascada/cpu/attention/tile.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The block that begins at key `first` of `count` keys, of which the tile's first token sees `seen` in all.
template <cpu_backend B, class E>
CASCADA_INLINE key_block block_from(index_t first, index_t count, index_t seen) noexcept {
  return {.count = count - first < block_keys<B, E> ? count - first : block_keys<B, E>, .seen = seen - first};
}

/// Attends to `block`, rows key(first + i), value(first + i) of `count`, packed.
template <cpu_backend B, class E, class Sequence, class Key, class Value>
void attend_packed(const Sequence& sequence, const query_rows<B, E>& tile, key_block block, index_t first,
                   index_t count, const Key& key, const Value& value, attention_scratch<B, E>& scratch) noexcept {
  block.keys = scratch.keys.data(), block.values = scratch.values.data();
  pack_block(key, value, first, count, tile, sequence.q.dim, sequence.kv.value_dim(), scratch, block);
  attend_block(tile, block, scratch.scores.data());
}

/// Attends to rows key(i), value(i), i < count, of which the tile's first token sees `seen`. `adjust_block(block,
/// first)` may set the bias of the block of keys from `first`, or how its scores are adjusted.
template <cpu_backend B, class E, class Sequence, class Key, class Value, class Adjust>
void attend_rows(const Sequence& sequence, const query_rows<B, E>& tile, index_t count, index_t seen, const Key& key,
                 const Value& value, const Adjust& adjust_block, attention_scratch<B, E>& scratch) noexcept {
  for (index_t first = 0; first < count; first += block_keys<B, E>) {
    key_block block = block_from<B, E>(first, count, seen);
    adjust_block(block, first);
    attend_packed(sequence, tile, block, first, count, key, value, scratch);
  }
}

/// The same for rows key(h, i), value(h, i) of the KV heads h of a tile, whose rows lie one head after the other. Where
/// the rows are few, only blocks whose scores are adjusted, or whose values are large, are packed. `adjust_block` sets
/// no bias, and may say who sees how many keys. Nobody sees keys before `begin`, a multiple of block_keys.
template <cpu_backend B, class E, class Sequence, class Key, class Value, class Adjust>
void attend_heads(const Sequence& sequence, const query_rows<B, E>& tile, index_t heads, index_t count, index_t seen,
                  const Key& key, const Value& value, const Adjust& adjust_block, attention_scratch<B, E>& scratch,
                  index_t begin = 0) noexcept {
  const index_t value_dim = sequence.kv.value_dim(), queries = tile.rows / (tile.group * heads);
  if (count <= begin) return;
  const bool lying = stays_in_place(tile, heads, key(0, begin), sequence.q.dim, value_dim);
  for (index_t first = begin; first < count; first += block_keys<B, E>) {
    key_block block = block_from<B, E>(first, count, seen);
    adjust_block(block, first);
    if (lying && !block.adjust &&
        attend_in_place(
            tile, heads, [&](index_t h, index_t i) { return key(h, first + i); },
            [&](index_t h, index_t i) { return value(h, first + i); }, count - first, value_dim, block, scratch))
      continue;
    for (index_t h = 0; h < heads; ++h)
      attend_packed(
          sequence, tile.part(h * queries, queries), block, first, count, [&](index_t i) { return key(h, i); },
          [&](index_t i) { return value(h, i); }, scratch);
  }
}

/// Attends to tokens token(i), i < count, of which the tile's first token, at `position`, sees `seen`. The rows of
/// KV heads from `kv_head` lie one head after the other; of several only where scores are logits. With a sliding
/// window, token(i) is i: blocks that lie before it are skipped.
template <cpu_backend B, class E, class Sequence, class Token>
void attend_tokens(const Sequence& sequence, index_t kv_head, index_t heads, const query_rows<B, E>& tile,
                   index_t position, index_t count, index_t seen, const Token& token,
                   attention_scratch<B, E>& scratch) noexcept {
  const score_terms& terms  = sequence.terms;
  score_adjustment   adjust = {.cap = terms.cap, .token = position};
  if (terms.slopes) adjust.slopes = terms.slopes + kv_head * tile.group, adjust.positions = scratch.positions.data();
  const index_t passed       = terms.sliding_window > 0 ? first_in_window(position, terms.sliding_window) : 0;
  const auto    adjust_block = [&](key_block& block, index_t first) {
    if (!terms.any()) return;
    if (terms.sliding_window > 0) adjust.hidden = std::int64_t{position} - terms.sliding_window + 1 - first;
    for (index_t i = 0; terms.slopes && i < whole_vectors<B>(block.count); ++i)
      scratch.positions[i] = i < block.count ? token(first + i) : position;
    const bool passes = adjust.hidden + tile.rows / tile.group > 1;  // the last token no longer sees the first key
    if (adjust.changes_logits() || passes) block.adjust = &adjust;
  };
  attend_heads(
      sequence, tile, heads, count, seen, [&](index_t h, index_t i) { return sequence.key(token(i), kv_head + h); },
      [&](index_t h, index_t i) { return sequence.value(token(i), kv_head + h); }, adjust_block, scratch,
      passed - passed % block_keys<B, E>);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
