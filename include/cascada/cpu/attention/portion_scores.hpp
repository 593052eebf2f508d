#pragma once
// Scores of a few queries and a portion of keys, which are transposed in registers, a vector of them at a time.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/computed_lanes.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/portions.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows whose sums are under way together: beside the keys, transposed, they fit into the registers.
inline constexpr index_t rows_at_a_time = 4;

/// use(row, count) for the rows of a tile, a few at a time.
template <class Use>
CASCADA_INLINE void by_few_rows(index_t rows, const Use& use) noexcept {
  for (index_t row = 0; row < rows; row += rows_at_a_time)
    use(row, rows - row < rows_at_a_time ? rows - row : rows_at_a_time);
}

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
    if (const index_t c = k * elements_per_lane<E>; c % keys.elements_of_line == 0)
      for (index_t i = 0; i < width; ++i) keys.ask(first + i, c);
    vec<B> tile[extent(width)];
#pragma GCC unroll 16
    for (index_t i = 0; i < width; ++i) tile[i] = whole_lanes<B, E>(keys.now[first + i], k);
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

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
