#pragma once
// Blocks of keys for few query rows, as a step of decoding has them: keys and values are multiplied where they lie.
//
// Packing costs as much for one query as for a whole tile. Here keys and values are read once, in portions of the heads
// in turn, while those that follow are on their way:
//
//   scores [rows, n]   of portions of keys                             portion_scores.hpp
//   weights            in the scores' place, or beside them            softmax_in_place.hpp
//   values [rows, d_v] of portions of rows, or along dimensions        portion_values.hpp, value_columns.hpp
//
// Every sum is in the same order as in tile.hpp and pair_tile.hpp: a row's result is, bit for bit, what a whole tile
// would give it.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/packing.hpp"
#include "cascada/cpu/attention/portion_scores.hpp"
#include "cascada/cpu/attention/portion_values.hpp"
#include "cascada/cpu/attention/portions.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/attention/products.hpp"
#include "cascada/cpu/attention/softmax_in_place.hpp"
#include "cascada/cpu/attention/value_columns.hpp"
#include "cascada/cpu/attention/value_watch.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows of a KV group up to which nothing is packed: with more, moving the operands once is cheaper.
inline constexpr index_t rows_in_place = 8;

/// add(row, count, first, end, factors) for the rows of a tile and the keys that they see among `keys` keys from
/// `begin` of a block, first and end counted from there, as add_what_rows_see() does it for a few rows at a time. Of
/// pairs, all together up to what the last row sees: the weights of keys that a row does not see are zero.
template <cpu_backend B, class E, class Add>
CASCADA_INLINE void by_sight(const query_rows<B, E>& tile, const key_block& block, index_t begin, index_t keys,
                             float* factors, const Add& add) noexcept {
  const auto within = [&](index_t token) {
    const index_t seen = block.visible(token);
    return seen <= begin ? 0 : seen - begin < keys ? seen - begin : keys;
  };
  by_few_rows(tile.rows, [&](index_t row, index_t count) {
    const index_t first[extent(rows_at_a_time)] = {};
    index_t       end[extent(rows_at_a_time)]   = {};
    for (index_t i = 0; i < count; ++i)
      end[i] = within((std::same_as<E, float> ? row + i : tile.rows - 1) / tile.group);
    add_what_rows_see(count, first, end, factors + row,
                      [&](index_t i, index_t rows, index_t from, index_t to, const float* shrink) {
                        add(row + i, rows, from, to, shrink);
                      });
  });
}

/// Whether rows like these can stay where they lie, for the KV heads of a tile.
template <cpu_backend B, class E, kv_row Key>
bool stays_in_place(const query_rows<B, E>& tile, index_t heads, const Key& key, index_t key_dim,
                    index_t value_dim) noexcept {
  constexpr index_t whole = vec<B>::width * elements_per_lane<E>;
  if (multiplies_by_tiles<B, E>()) return false;
  return tile.rows <= rows_in_place * heads && tile.rows <= rows_of_heads && !is_apart(key) && key_dim % whole == 0 &&
         value_dim % whole == 0;
}

/// Asks for the values value(h, i), i < count, that are read first.
template <cpu_backend B, class Value>
CASCADA_INLINE void ask_for_values(const Value& value, index_t heads, index_t count, index_t dim) noexcept {
  using row_of_values = decltype(value(0, 0));
  if constexpr (detail::is_strided<row_of_values>)
    if (is_apart(value(0, 0))) return ask_for_strip<B>([&](index_t i) { return value(0, i); }, count);
  const index_t lines = heads * lines_of_row<row_of_values>(dim);
  for (index_t i = 0; i < count && i * lines < lines_ahead; ++i)
    for (index_t h = 0; h < heads; ++h) prefetch_row(value(h, i), dim);
}

/// A block of keys on its way through a tile whose rows lie one KV head after the other. Scores, weights and factors
/// lie as the rows do.
template <cpu_backend B, class E>
struct block_in_place {
  const query_rows<B, E>&  tile;
  index_t                  heads;
  key_block                block;
  attention_scratch<B, E>& scratch;
  index_t                  queries                = tile.rows / (tile.group * heads);  // tokens
  index_t                  rows                   = tile.rows / heads;                 // of a head
  index_t                  most                   = block.visible(queries - 1);        // keys that the last token sees
  value_watch<B, E>        watch                  = {};
  float                    factors[rows_of_heads] = {};  // by which what a row has seen so far shrinks

  CASCADA_INLINE query_rows<B, E> part(index_t h) const noexcept { return tile.part(h * queries, queries); }
  CASCADA_INLINE float*           scores(index_t h, index_t row = 0) const noexcept {
    return scratch.scores.data() + (h * rows + row) * score_stride<B, E>;
  }
  CASCADA_INLINE float* weights(index_t h, index_t row = 0) const noexcept {
    if constexpr (std::same_as<E, float>) return scores(h, row);
    return scores(heads) + (h * rows + row) * weight_stride<B, E>;
  }
  CASCADA_INLINE float* reach(index_t h) const noexcept {
    return std::same_as<E, float> ? nullptr : scratch.reach.data() + h * block_keys<B, E>;
  }
};

/// Scores of keys key(h, i), of which `left` may be asked for.
template <cpu_backend B, class E, class Key>
void score_in_place(const block_in_place<B, E>& of, const Key& key, index_t left) noexcept {
  using row_of_keys      = decltype(key(0, 0));
  const index_t elements = of.tile.key_lanes * elements_per_lane<E>;
  for_portions<row_of_keys>(of.heads, of.most, elements, [&](portion_place now, portion_place later) {
    portion_rows<row_of_keys> keys;
    keys.begin(elements, of.scratch.keys.data(), key, now, later, of.block.count, left);
    float* const squares = std::same_as<E, float> ? nullptr : of.reach(now.h) + now.first;
    by_few_rows(of.rows, [&](index_t row, index_t count) {
      score_portion(of.part(now.h), row, count, keys, of.scores(now.h) + now.first, score_stride<B, E>, squares);
    });
  });
}

/// Scores become weights.
template <cpu_backend B, class E>
void weigh_in_place(block_in_place<B, E>& of) noexcept {
  for (index_t h = 0; h < of.heads; ++h) {
    if constexpr (!std::same_as<E, float>) lengths_so_far<B>(of.most, of.reach(h)), of.block.reach = of.reach(h);
    weigh_scores(of.part(h), of.block, of.scores(h), of.weights(h), of.factors + h * of.rows);
  }
}

/// values = values x factors + weights x V for values value(h, i) that lie as rows, of which `left` may be asked for.
template <cpu_backend B, class E, class Value>
void add_rows_in_place(block_in_place<B, E>& of, const Value& value, index_t left, index_t value_dim) noexcept {
  using row_of_values    = decltype(value(0, 0));
  constexpr index_t keys = portion_keys<row_of_values>, pair = elements_per_lane<E>;
  for_portions<row_of_values>(of.heads, of.most, value_dim, [&](portion_place now, portion_place later) {
    portion_rows<row_of_values> values;
    values.begin(value_dim, of.scratch.values.data(), value, now, later, of.block.count, left);
    float* const shrink = of.factors + now.h * of.rows;
    by_sight(of.part(now.h), of.block, now.first, keys, shrink,
             [&](index_t row, index_t count, index_t first, index_t end, const float* factors) {
               add_portion(of.part(now.h), row, count, of.weights(now.h, row) + (now.first + first) / pair,
                           weight_stride<B, E>, values, first, (end - first + pair - 1) / pair, factors, of.watch);
             });
  });
}

/// The same for values that lie by dimension.
template <cpu_backend B, class E, class Value>
void add_columns_in_place(block_in_place<B, E>& of, const Value& value) noexcept {
  using Stored = stored_in<decltype(value(0, 0))>;
  for (index_t h = 0; h < of.heads; ++h) {
    value_columns<B, E, Stored> columns;
    columns.begin([&](index_t i) { return value(h, i); }, of.block.count);
    if (h + 1 < of.heads) ask_for_strip<B>([&](index_t i) { return value(h + 1, i); }, of.most);
    by_sight(of.part(h), of.block, 0, of.block.count, of.factors + h * of.rows,
             [&](index_t row, index_t count, index_t first, index_t end, const float* factors) {
               add_columns<B, E, Stored, rows_at_a_time>(of.part(h), row, count, columns, first, end,
                                                         of.weights(h, row) + first / elements_per_lane<E>,
                                                         weight_stride<B, E>, factors, of.watch);
             });
  }
}

/// Takes a block of keys key(h, i) and values value(h, i), i < block.count, into the rows of the KV heads h of a tile,
/// which lie one head after the other. `left` rows may be asked for. False, and nothing is done, if values are so large
/// that weights depend on them (packing.hpp).
template <cpu_backend B, class E, class Key, class Value>
bool attend_in_place(const query_rows<B, E>& tile, index_t heads, const Key& key, const Value& value, index_t left,
                     index_t value_dim, const key_block& block, attention_scratch<B, E>& scratch) noexcept {
  block_in_place<B, E> of{tile, heads, block, scratch};
  score_in_place(of, key, left);
  const auto before = softmax_before(tile, scratch);
  if constexpr (!std::same_as<E, float>) copy_softmax(tile, before);
  ask_for_values<B>(value, heads, of.most, value_dim);
  weigh_in_place(of);
  bool by_dimension = false;
  if constexpr (detail::is_strided<decltype(value(0, 0))>)
    if (by_dimension = is_apart(value(0, 0)); by_dimension) add_columns_in_place(of, value);
  if (!by_dimension) add_rows_in_place(of, value, left, value_dim);
  if (of.watch.ordinary()) return true;
  copy_softmax(before, tile);
  return false;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
