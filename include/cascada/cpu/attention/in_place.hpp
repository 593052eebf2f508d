#pragma once
// Blocks of keys for few query rows, as a step of decoding has them: keys and values are multiplied where they lie.
//
// Packing costs as much for one query as for a whole tile. Here keys are transposed in registers, a vector of them at a
// time, and values are not moved at all, while the rows that follow are on their way. Blocks of Q8_0 become floats on
// their way into registers; other rows that are computed do so a portion at a time, in the cache. Every sum is the same
// chain as in tile.hpp and pair_tile.hpp: a row's result is, bit for bit, what a whole tile would give it.

#include <algorithm>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/packing.hpp"
#include "cascada/cpu/attention/pair_tile.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/attention/value_columns.hpp"
#include "cascada/cpu/attention/value_watch.hpp"
#include "cascada/cpu/base/amx.hpp"
#include "cascada/cpu/base/bf16_pairs.hpp"
#include "cascada/cpu/base/computed_lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Rows of a KV group up to which nothing is packed: with more, moving the operands once is cheaper.
inline constexpr index_t rows_in_place = 8;

/// Rows whose sums are under way together: beside a square of keys, they fit into the registers.
inline constexpr index_t rows_at_a_time = 4;

/// The rows of a portion, to be read, and of one that comes later, to be asked for.
template <class Row>
struct portion_rows;

/// A portion: keys of one KV head that are read together. Those of the other heads, which lie beside them, come next:
/// of few keys, since rows of a power of two bytes would push each other out of the cache, and what was asked for.
template <class Row>
inline constexpr index_t portion_keys = 16;
template <>
inline constexpr index_t portion_keys<block_row<q8_0_block>> = 32;

/// Lines of memory between a row's being asked for and its being read: a third of the L1 cache.
inline constexpr index_t lines_ahead = 256;

/// The same in portions of rows of `dim`.
template <class Row>
CASCADA_INLINE index_t portions_ahead(index_t dim) noexcept {
  constexpr index_t of_line = portion_rows<Row>::elements_of_line;
  const index_t     ahead   = lines_ahead / (portion_keys<Row> * ((dim + of_line - 1) / of_line));
  return ahead > 1 ? ahead : 1;
}

/// use(i, row now, row later) for the rows item(h, first + i) of a portion and those of the one that comes `ahead`
/// later. The last of `count` stands for those beyond, later that of `left`.
template <class Row, class Item, class Use>
CASCADA_INLINE void for_rows_of_portion(index_t ahead, const Item& item, index_t h, index_t heads, index_t first,
                                        index_t count, index_t left, const Use& use) noexcept {
  const index_t next = (h + ahead) % heads, after = first + (h + ahead) / heads * portion_keys<Row>;
  for (index_t i = 0; i < portion_keys<Row>; ++i)
    use(i, item(h, first + i < count ? first + i : count - 1), item(next, after + i < left ? after + i : left - 1));
}

/// Where they lie.
template <class Row, row_storage Stored>
struct lying_rows {
  static constexpr index_t elements         = detail::rows_of<Stored>::count(1);
  static constexpr index_t elements_of_line = elements > 1 ? elements : 64 / static_cast<index_t>(sizeof(Stored));

  const Stored* now[portion_keys<Row>];
  const Stored* later[portion_keys<Row>];

  template <class... Place>
  CASCADA_INLINE void begin(index_t dim, float*, const Place&... place) noexcept {
    for_rows_of_portion<Row>(portions_ahead<Row>(dim), place..., [&](index_t i, const auto& row, const auto& other) {
      now[i] = row.data, later[i] = other.data;
    });
  }
  CASCADA_INLINE void ask(index_t i, index_t c) const noexcept {
    if (c % elements == 0) __builtin_prefetch(later[i] + c / elements);
  }
};
template <row_scalar Scalar>
struct portion_rows<strided_row<Scalar>> : lying_rows<strided_row<Scalar>, Scalar> {};
template <>
struct portion_rows<block_row<q8_0_block>> : lying_rows<block_row<q8_0_block>, q8_0_block> {};

/// As floats, in memory of the worker's: [portion_keys, dim].
template <computed_row Row>
struct portion_rows<Row> {
  static constexpr index_t elements_of_line = elements_asked_for;

  const float* now[portion_keys<Row>];
  Row          later[portion_keys<Row>];

  template <class... Place>
  CASCADA_INLINE void begin(index_t dim, float* room, const Place&... place) noexcept {
    for_rows_of_portion<Row>(portions_ahead<Row>(dim), place..., [&](index_t i, const auto& row, const auto& other) {
      row.load(0, dim, room + i * dim);
      now[i] = room + i * dim, later[i] = other;
    });
    asm volatile("" : : "r"(room) : "memory");  // as in rounded_element
  }
  CASCADA_INLINE void ask(index_t i, index_t c) const noexcept {
    if (c % elements_asked_for == 0) __builtin_prefetch(later[i].address(c));
  }
};

/// scores [Rows, width] of queries x keys, for a vector of keys from `first`; of pairs, also the sums of the keys'
/// squares.
template <cpu_backend B, class E, index_t Rows, kv_row Row>
CASCADA_INLINE void score_keys(const float* queries, index_t key_lanes, const portion_rows<Row>& keys, index_t first,
                               float* scores, std::int64_t stride, [[maybe_unused]] float* squares) noexcept {
  constexpr index_t       width = vec<B>::width;
  vec<B>                  sum[extent(Rows)];
  [[maybe_unused]] vec<B> square = vec<B>::zero();
#pragma GCC unroll 8
  for (index_t r = 0; r < Rows; ++r) sum[r] = vec<B>::zero();
  for (index_t k = 0; k < key_lanes; k += width) {
    vec<B> tile[extent(width)];
#pragma GCC unroll 16
    for (index_t i = 0; i < width; ++i) {
      tile[i] = whole_lanes<B, E>(keys.now[first + i], k);
      keys.ask(first + i, k * elements_per_lane<E>);
    }
    transpose(tile);
#pragma GCC unroll 16
    for (index_t i = 0; i < width; ++i) {
      if constexpr (!std::same_as<E, float>) square = add_products<E>(tile[i], tile[i], square);
#pragma GCC unroll 8
      for (index_t r = 0; r < Rows; ++r)
        sum[r] = add_products<E>(vec<B>::broadcast(queries[std::int64_t{r} * key_lanes + k + i]), tile[i], sum[r]);
    }
  }
  if constexpr (!std::same_as<E, float>) square.store(squares + first);
#pragma GCC unroll 8
  for (index_t r = 0; r < Rows; ++r) sum[r].store(scores + r * stride + first);
}

/// The same of Q8_0, for two vectors of keys: the sums of one would wait for themselves. Integers are transposed, four
/// to a lane, before they become floats.
template <cpu_backend B, class E, index_t Rows>
CASCADA_INLINE void score_keys(const float* queries, index_t key_lanes, const portion_rows<block_row<q8_0_block>>& keys,
                               index_t first, float* scores, std::int64_t stride, float*) noexcept {
  constexpr index_t elements = q8_0_block::elements, width = vec<B>::width, vectors = 2;
  constexpr index_t fours = width < elements / 4 ? width : elements / 4;  // of one block in a tile
  vec<B>            sum[extent(Rows)][vectors];
#pragma GCC unroll 8
  for (index_t r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = vec<B>::zero();
  for (index_t k = 0; k < key_lanes; k += 4 * width) {
    vec<B> tiles[vectors][extent(width)];
#pragma GCC unroll 2
    for (index_t v = 0; v < vectors; ++v) {
#pragma GCC unroll 16
      for (index_t i = 0; i < width; ++i) {
        const index_t key = first + v * width + i;
        tiles[v][i]       = load_fours<B>(keys.now[key], k, key_lanes);
        for (index_t c = k; c < k + 4 * width; c += elements) keys.ask(key, c);
      }
      transpose(tiles[v]);
    }
    const auto add_block = [&]<index_t Begin>() {
      const index_t block           = (k + 4 * Begin) / elements;
      const vec<B>  scales[vectors] = {scales_of<B>(keys.now + first, block),
                                       scales_of<B>(keys.now + first + width, block)};
#pragma GCC unroll 8
      for (index_t i = Begin; i < Begin + fours; ++i)
#pragma GCC unroll 4
        for (index_t which = 0; which < 4; ++which)
#pragma GCC unroll 2
          for (index_t v = 0; v < vectors; ++v) {
            const auto key = one_of_fours(tiles[v][i], which) * scales[v];
#pragma GCC unroll 8
            for (index_t r = 0; r < Rows; ++r)
              sum[r][v] = multiply_add(vec<B>::broadcast(queries[std::int64_t{r} * key_lanes + k + 4 * i + which]), key,
                                       sum[r][v]);
          }
    };
    add_block.template operator()<0>();
    if constexpr (fours < width)
      if (k + elements < key_lanes) add_block.template operator()<fours>();
  }
#pragma GCC unroll 8
  for (index_t r = 0; r < Rows; ++r)
    for (index_t v = 0; v < vectors; ++v) sum[r][v].store(scores + r * stride + first + v * width);
}

/// The same for a portion and `count` rows of a tile from `row`, 1 to rows_at_a_time. Flat, as pack_keys.
template <cpu_backend B, class E, kv_row Row, index_t Rows = rows_at_a_time>
[[gnu::flatten]] void score_portion(const query_rows<B, E>& tile, index_t row, index_t count,
                                    const portion_rows<Row>& keys, float* scores, std::int64_t stride,
                                    float* squares) noexcept {
  if constexpr (Rows > 1)
    if (count < Rows) return score_portion<B, E, Row, Rows - 1>(tile, row, count, keys, scores, stride, squares);
  const float*      queries = tile.queries + std::int64_t{row} * tile.key_lanes;
  constexpr index_t step    = (std::same_as<Row, block_row<q8_0_block>> ? 2 : 1) * vec<B>::width;
  for (index_t first = 0; first < portion_keys<Row>; first += step)
    score_keys<B, E, Rows>(queries, tile.key_lanes, keys, first, scores + row * stride, stride, squares);
}

/// Lanes between rows of weights: floats take their scores' place.
template <cpu_backend B, class E>
inline constexpr std::int64_t weights_apart = std::same_as<E, float> ? score_stride<B, E> : weight_stride<B, E>;

/// Lanes that weights of so many keys take.
template <class E>
CASCADA_INLINE constexpr index_t lanes_of_keys(index_t keys) noexcept {
  return (keys + elements_per_lane<E> - 1) / elements_per_lane<E>;
}

/// use(row, count) for the rows of a tile, a few at a time.
template <class Use>
CASCADA_INLINE void by_few_rows(index_t rows, const Use& use) noexcept {
  for (index_t row = 0; row < rows; row += rows_at_a_time)
    use(row, rows - row < rows_at_a_time ? rows - row : rows_at_a_time);
}

/// Lanes of the values of one key, or of two as pairs, for columns from c.
template <cpu_backend B, index_t Vectors, row_scalar Scalar>
CASCADA_INLINE void load_values(const Scalar* const* rows, index_t c, vec<B> (&lanes)[extent(Vectors)],
                                value_watch<B, float>&) noexcept {
  // clang-format off: it takes the pragma for a declaration
#pragma GCC unroll 8
  // clang-format on
  for (index_t v = 0; v < Vectors; ++v) lanes[v] = load_floats<B>(rows[0] + c + v * vec<B>::width);
}

template <cpu_backend B, index_t Vectors>
CASCADA_INLINE void load_values(const q8_0_block* const* rows, index_t c, vec<B> (&lanes)[extent(Vectors)],
                                value_watch<B, float>&) noexcept {
  constexpr index_t elements = q8_0_block::elements;
  auto              scale    = vec<B>::zero();
#pragma GCC unroll 8
  for (index_t v = 0; v < Vectors; ++v) {
    const index_t     at    = c + v * vec<B>::width;
    const q8_0_block& block = rows[0][at / elements];
    if (v * vec<B>::width % elements == 0) scale = broadcast_float<B>(block.scale);
    lanes[v] = load_integers<B>(block.values + at % elements) * scale;
  }
}

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
template <cpu_backend B, index_t Vectors>
CASCADA_INLINE void load_values(const bfloat16* const* rows, index_t c, vec<B> (&lanes)[extent(Vectors)],
                                value_watch<B, bf16_pair>& watch) noexcept {
  const __m512i lower = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,  //
                                         39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
#pragma GCC unroll 4
  for (index_t v = 0; v < Vectors; v += 2) {
    const __m512i first  = _mm512_loadu_si512(rows[0] + c + v * 16);
    const __m512i second = _mm512_loadu_si512(rows[1] + c + v * 16);
    watch.see({_mm512_castsi512_ps(first)}), watch.see({_mm512_castsi512_ps(second)});
    lanes[v].value     = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, lower, second));
    lanes[v + 1].value = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, upper, second));
  }
}
#endif

/// values = values x factor + weights x V for `count` rows of a tile from `row`, 1 to rows_at_a_time, all columns, and
/// `lanes` lanes of keys from `first` of a portion.
template <cpu_backend B, class E, kv_row Row, index_t Rows = rows_at_a_time>
[[gnu::flatten]] void add_portion(const query_rows<B, E>& tile, index_t row, index_t count, const float* weights,
                                  std::int64_t stride, const portion_rows<Row>& rows, index_t first, index_t lanes,
                                  const float* factors, value_watch<B, E>& watch) noexcept {
  if constexpr (Rows > 1)
    if (count < Rows)
      return add_portion<B, E, Row, Rows - 1>(tile, row, count, weights, stride, rows, first, lanes, factors, watch);
  constexpr index_t elements = elements_per_lane<E>, width = vec<B>::width, most = attention_tuning<B>.vectors;
  constexpr index_t line   = portion_rows<Row>::elements_of_line;
  value_watch<B, E> seen   = watch;
  float*            values = tile.values_of(row);
  index_t           c      = 0;
  const auto        add    = [&]<index_t Vectors>() {
    const auto load = [&](index_t j, vec<B>(&value)[extent(Vectors)]) {
      const index_t at = first + j * elements;
      load_values<B, Vectors>(rows.now + at, c, value, seen);
#pragma GCC unroll 2
      for (index_t e = 0; e < elements; ++e)
        for (index_t x = 0; x < Vectors * width; x += line) rows.ask(at + e, c + x);
    };
    value_tile<B, E, Rows, Vectors>(weights, stride, 0, lanes, factors, values + c, tile.value_stride, load);
  };
  for (; c + most * width <= tile.value_stride; c += most * width) add.template operator()<most>();
  for (; c < tile.value_stride; c += elements * width) add.template operator()<elements>();
  watch = seen;
}

/// Scores of a block's keys become weights: of floats in their place, of pairs in `weights`. What a row has seen so far
/// shrinks by its factor.
template <cpu_backend B>
CASCADA_INLINE void weigh_in_place(const query_rows<B>& tile, const key_block& block, float* scores, float*,
                                   float* factors) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    const index_t seen = block.visible(row / tile.group);
    factors[row]       = seen == 0 ? 1.0f
                                   : absorb_scores<B>(scores + row * score_stride<B, float>, seen, tile.maxima[row],
                                                      tile.sums + row * vec<B>::width);
  }
}
#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
template <cpu_backend B>
CASCADA_INLINE void weigh_in_place(const query_rows<B, bf16_pair>& tile, const key_block& block, float* scores,
                                   float* weights, float* factors) noexcept {
  const rows_at_once<B> rows(tile, 0, tile.rows, block);
  for (index_t row = 0; row < tile.rows; ++row) factors[row] = 1;
  absorb_rows<B, false>(rows, block, scores, weights, factors);
  for (index_t row = 0; row < tile.rows; ++row)
    if (rows.small[row] && rows.seen[row] > 0) tile.maxima[row] = 0;
}
#endif

/// add(row, count, first, end, factors) for the rows of a tile, a few at a time, and the keys [first, end) that they
/// see of `keys` keys of a block from `begin`: together, then each its own. Of pairs, up to those of the last row: the
/// weights of keys that a row does not see are zero.
template <cpu_backend B, class E, class Add>
CASCADA_INLINE void by_sight(const query_rows<B, E>& tile, const key_block& block, index_t begin, index_t keys,
                             const float* factors, const Add& add) noexcept {
  const auto within = [&](index_t token) {
    const index_t seen = block.visible(token);
    return seen <= begin ? 0 : seen - begin < keys ? seen - begin : keys;
  };
  const index_t most  = within(tile.rows / tile.group - 1);
  const index_t least = std::same_as<E, float> ? within(0) : most;
  by_few_rows(tile.rows, [&](index_t row, index_t count) { add(row, count, 0, least, factors + row); });
  const float same = 1;
  for (index_t row = 0; least < most && row < tile.rows; ++row)
    if (const index_t seen = within(row / tile.group); seen > least) add(row, 1, least, seen, &same);
}

/// Room for what the rows of a tile have seen so far, where packed operands would lie.
template <cpu_backend B, class E>
CASCADA_INLINE query_rows<B, E> softmax_before(query_rows<B, E> tile, attention_scratch<B, E>& scratch) noexcept {
  tile.values = scratch.values.data();
  tile.sums   = scratch.keys.data();
  tile.maxima = scratch.keys.data() + tile.rows * vec<B>::width;
  return tile;
}

/// Copies what rows have seen so far.
template <cpu_backend B, class E>
CASCADA_INLINE void copy_softmax(const query_rows<B, E>& from, const query_rows<B, E>& to) noexcept {
  std::copy_n(from.maxima, from.rows, to.maxima);
  std::copy_n(from.sums, from.rows * vec<B>::width, to.sums);
  std::copy_n(from.values, std::int64_t{from.rows} * from.value_stride, to.values);
}

/// Whether rows like these can stay where they lie, for the KV heads of a tile.
template <cpu_backend B, class E, kv_row Key>
bool stays_in_place(const query_rows<B, E>& tile, index_t heads, const Key& key, index_t key_dim,
                    index_t value_dim) noexcept {
  constexpr index_t whole = vec<B>::width * elements_per_lane<E>;
#ifdef __AMX_BF16__
  // Matrix tiles add in another order.
  if constexpr (!std::same_as<E, float> && contains(B::instructions, isa::amx_bf16))
    if (tiles_permitted<B>()) return false;
#endif
  return tile.rows <= rows_in_place * heads && tile.rows <= rows_of_heads && !is_apart(key) && key_dim % whole == 0 &&
         value_dim % whole == 0;
}

/// values = values x factors + weights x V for the KV heads h of a tile, part(h), whose values lie as rows. Factors are
/// 1 behind it.
template <cpu_backend B, class E, class Part, class Value>
void add_rows_of_heads(const Part& part, index_t heads, const Value& value, index_t left, index_t value_dim,
                       const key_block& block, const float* weights, float* factors, attention_scratch<B, E>& scratch,
                       value_watch<B, E>& watch) noexcept {
  constexpr std::int64_t across = weights_apart<B, E>;
  const index_t          rows = part(0).rows, most = block.visible(rows / part(0).group - 1);
  using value_row = decltype(value(0, 0));
  for (index_t begin = 0; begin < most; begin += portion_keys<value_row>)
    for (index_t h = 0; h < heads; ++h) {
      portion_rows<value_row> values;
      values.begin(value_dim, scratch.values.data(), value, h, heads, begin, block.count, left);
      const auto add = [&](index_t row, index_t count, index_t first, index_t end, const float* by) {
        add_portion(part(h), row, count, weights + (h * rows + row) * across + (begin + first) / elements_per_lane<E>,
                    across, values, first, lanes_of_keys<E>(end - first), by, watch);
      };
      by_sight(part(h), block, begin, portion_keys<value_row>, factors + h * rows, add);
      for (index_t row = 0; row < rows; ++row) factors[h * rows + row] = 1;
    }
}

/// The same for values that lie by dimension.
template <cpu_backend B, class E, class Part, class Value>
void add_columns_of_heads(const Part& part, index_t heads, const Value& value, const key_block& block,
                          const float* weights, const float* factors, value_watch<B, E>& watch) noexcept {
  constexpr std::int64_t across = weights_apart<B, E>;
  const index_t          rows   = part(0).rows;
  for (index_t h = 0; h < heads; ++h) {
    value_columns<B, E, stored_in<decltype(value(0, 0))>> columns;
    columns.begin([&](index_t i) { return value(h, i); }, block.count);
    const auto add = [&](index_t row, index_t count, index_t first, index_t end, const float* by) {
      add_columns<B, E, stored_in<decltype(value(0, 0))>, rows_at_a_time>(
          part(h), row, count, columns, first, end, weights + (h * rows + row) * across + first / elements_per_lane<E>,
          across, by, watch);
    };
    by_sight(part(h), block, 0, block.count, factors + h * rows, add);
  }
}

/// Takes a block of keys key(h, i) and values value(h, i), i < block.count, into the rows of the KV heads h of a tile,
/// which lie one head after the other. `left` rows may be asked for. False, and nothing is done, if values are so large
/// that weights depend on them (pair_tile.hpp).
template <cpu_backend B, class E, class Key, class Value>
bool attend_in_place(const query_rows<B, E>& tile, index_t heads, const Key& key, const Value& value, index_t left,
                     index_t value_dim, key_block block, attention_scratch<B, E>& scratch) noexcept {
  constexpr std::int64_t stride  = score_stride<B, E>;
  constexpr std::int64_t across  = weights_apart<B, E>;
  const index_t          queries = tile.rows / (tile.group * heads), rows = tile.rows / heads;
  const index_t          most    = block.visible(queries - 1);  // by the last token
  float* const           scores  = scratch.scores.data();
  float* const           weights = std::same_as<E, float> ? scores : scores + tile.rows * stride;
  float                  factors[rows_of_heads];
  const auto             part  = [&](index_t h) { return tile.part(h * queries, queries); };
  const auto             reach = [&](index_t h, index_t i) {
    return std::same_as<E, float> ? nullptr : scratch.reach.data() + h * step_keys<B, E> + i;
  };
  using key_row   = decltype(key(0, 0));
  using value_row = decltype(value(0, 0));
  for (index_t begin = 0; begin < most; begin += portion_keys<key_row>)
    for (index_t h = 0; h < heads; ++h) {
      portion_rows<key_row> keys;
      keys.begin(tile.key_lanes * elements_per_lane<E>, scratch.keys.data(), key, h, heads, begin, block.count, left);
      by_few_rows(rows, [&](index_t row, index_t count) {
        score_portion(part(h), row, count, keys, scores + h * rows * stride + begin, stride, reach(h, begin));
      });
    }
  for (index_t p = 0; p < portions_ahead<value_row>(value_dim); ++p) {  // on their way while scores become weights
    const index_t first = p / heads * portion_keys<value_row>;
    for (index_t i = first; i < most && i < first + portion_keys<value_row>; ++i)
      prefetch_row(value(p % heads, i), value_dim);
  }
  value_watch<B, E> watch;
  const auto        before = softmax_before(tile, scratch);
  if constexpr (!std::same_as<E, float>) copy_softmax(tile, before);
  for (index_t h = 0; h < heads; ++h) {
    if constexpr (!std::same_as<E, float>) lengths_so_far<B>(most, reach(h, 0)), block.reach = reach(h, 0);
    weigh_in_place(part(h), block, scores + h * rows * stride, weights + h * rows * across, factors + h * rows);
  }
  bool by_dimension = false;
  if constexpr (detail::is_strided<value_row>)
    if (by_dimension = is_apart(value(0, 0)); by_dimension)
      add_columns_of_heads(part, heads, value, block, weights, factors, watch);
  if (!by_dimension) add_rows_of_heads(part, heads, value, left, value_dim, block, weights, factors, scratch, watch);
  if (watch.ordinary()) return true;
  copy_softmax(before, tile);
  return false;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
