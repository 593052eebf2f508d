#pragma once
// Query rows on their way over keys, block by block: packed, or where they lie.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/in_place.hpp"
#include "cascada/cpu/attention/operands.hpp"
#include "cascada/cpu/attention/tile.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// The block of `count` keys that begins at key `first`, of which the tile's first token sees `seen` in all.
template <cpu_backend B, class E>
CASCADA_INLINE key_block block_from(index_t first, index_t count, index_t seen) noexcept {
  return {.count = count - first < step_keys<B, E> ? count - first : step_keys<B, E>, .seen = seen - first};
}

/// Attends to `block`, rows key(first + i), value(first + i) of `count`, packed.
template <cpu_backend B, class E, class Sequence, class Key, class Value>
void attend_packed(const Sequence& sequence, const query_rows<B, E>& tile, key_block block, index_t first,
                   index_t count, const Key& key, const Value& value, attention_scratch<B, E>& scratch) noexcept {
  block.keys = scratch.keys.data(), block.values = scratch.values.data();
  pack_block(key, value, first, count, tile, sequence.q.dim, sequence.kv.value_dim(), scratch, block);
  attend_block(tile, block, scratch.scores.data());
}

/// Attends to rows key(i), value(i), i < count, of which the tile's first token sees `seen`. `weigh(block, first)` may
/// set the bias of the block of keys from `first`.
template <cpu_backend B, class E, class Sequence, class Key, class Value, class Weigh>
void attend_rows(const Sequence& sequence, const query_rows<B, E>& tile, index_t count, index_t seen, const Key& key,
                 const Value& value, const Weigh& weigh, attention_scratch<B, E>& scratch) noexcept {
  for (index_t first = 0; first < count; first += step_keys<B, E>) {
    key_block block = block_from<B, E>(first, count, seen);
    weigh(block, first);
    attend_packed(sequence, tile, block, first, count, key, value, scratch);
  }
}

/// Attends to rows key(h, i), value(h, i), i < count, for the KV heads h of a tile, whose rows lie one head after the
/// other: where the rows are few, without packing. A head's first token sees `seen` of them, or `seen_by` says who sees
/// how many.
template <cpu_backend B, class E, class Sequence, class Key, class Value>
void attend_few_rows(const Sequence& sequence, const query_rows<B, E>& tile, index_t heads, index_t count, index_t seen,
                     const index_t* seen_by, const Key& key, const Value& value,
                     attention_scratch<B, E>& scratch) noexcept {
  const index_t value_dim = sequence.kv.value_dim(), queries = tile.rows / (tile.group * heads);
  if (count <= 0) return;
  const bool lying = stays_in_place(tile, heads, key(0, 0), value(0, 0), sequence.q.dim, value_dim);
  for (index_t first = 0; first < count; first += step_keys<B, E>) {
    key_block block = block_from<B, E>(first, count, seen);
    block.seen_by   = seen_by;
    if (lying && attend_in_place(
                     tile, heads, [&](index_t h, index_t i) { return key(h, first + i); },
                     [&](index_t h, index_t i) { return value(h, first + i); }, count - first, value_dim, block, scratch))
      continue;
    for (index_t h = 0; h < heads; ++h)
      attend_packed(
          sequence, tile.part(h * queries, queries), block, first, count, [&](index_t i) { return key(h, i); },
          [&](index_t i) { return value(h, i); }, scratch);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
