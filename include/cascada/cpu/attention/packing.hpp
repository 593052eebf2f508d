#pragma once
// A block's keys and values, packed as the tile kernel reads them.

#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/pair_packing.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/attention/row_lengths.hpp"
#include "cascada/cpu/attention/scratch.hpp"
#include "cascada/cpu/attention/value_columns.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// panels [lanes, panel_keys], k-major, of rows key(0) .. key(count - 1). Columns up to a whole vector are zero, of
/// pairs up to a whole panel; `squares` gets the sum of the squares of each key of pairs. Flat: Eigen's transpose would
/// otherwise be a function of its own, which differently compiled objects share.
template <cpu_backend B, class E, class Key>
[[gnu::flatten]] void pack_keys(const Key& key, index_t count, index_t dim, float* panels,
                                [[maybe_unused]] float* squares) noexcept {
  constexpr index_t width = vec<B>::width;
  const index_t     lanes = lanes_of<B, E>(dim);
  for (index_t first = 0; first < count; first += width) {
    const index_t    some                = count - first < width ? count - first : width;
    decltype(key(0)) rows[extent(width)] = {};
    for (index_t i = 0; i < some; ++i) rows[i] = key(first + i);
    float*  columns = panels + panel_offset<B>(first, lanes);
    auto    sum     = vec<B>::zero();
    index_t k       = 0;
    for (; k + width <= lanes; k += width) {
      vec<B> tile[extent(width)];
      for (index_t i = 0; i < width; ++i) tile[i] = i < some ? load_lanes<B, E>(rows[i], k, dim) : vec<B>::zero();
      transpose(tile);
      for (index_t i = 0; i < width; ++i) tile[i].store(columns + std::int64_t{k + i} * panel_keys<B>);
      if constexpr (!std::same_as<E, float>)
        for (index_t i = 0; i < width; ++i) sum = add_products<E>(tile[i], tile[i], sum);
    }
    if constexpr (!std::same_as<E, float>) sum.store(squares + first);
    for (; k < lanes; ++k)  // of floats
      for (index_t i = 0; i < width; ++i) columns[std::int64_t{k} * panel_keys<B> + i] = i < some ? rows[i][k] : 0.0f;
  }
}

/// rows [count, stride] of value(0) .. value(count - 1), zero beyond dim.
template <cpu_backend B, class Value>
void pack_values(const Value& value, index_t count, index_t dim, index_t stride, float* rows) noexcept {
  if constexpr (detail::is_strided<decltype(value(0))>)
    if (count > 0 && is_apart(value(0))) return pack_columns<B>(value, count, dim, stride, rows);
  for (index_t i = 0; i < count; ++i, rows += stride) {
    const auto row = value(i);
    index_t    c   = 0;
    for (; c + vec<B>::width <= dim; c += vec<B>::width) load_lanes<B, float>(row, c, dim).store(rows + c);
    for (; c < stride; ++c) rows[c] = c < dim ? row[c] : 0.0f;
  }
}

/// Turns the squares of keys into the largest length so far.
template <cpu_backend B>
CASCADA_INLINE void lengths_so_far(index_t count, float* squares) noexcept {
  float most = 0;
  for (index_t i = 0; i < count; ++i) {
    const float length = length_of<B>(squares[i]);
    squares[i] = most = length > most ? length : most;
  }
}

/// Packs keys and values of rows first .. first + block.count - 1. What is read next is on its way meanwhile: values
/// while keys are packed, and the keys of the next block, up to `count`, while values are.
template <cpu_backend B, class E, class Key, class Value>
void pack_block(const Key& key, const Value& value, index_t first, index_t count, const query_rows<B, E>& tile,
                index_t key_dim, index_t value_dim, attention_scratch<B, E>& scratch, key_block& block) noexcept {
  const auto next_value = [&](index_t i) {
    if (first + block.count + i < count) prefetch_row(key(first + block.count + i), key_dim);
    return value(first + i);
  };
  const auto next_key = [&](index_t i) {
    if (i + rows_ahead < block.count) prefetch_row(key(first + i + rows_ahead), key_dim);
    prefetch_row(value(first + i), value_dim);
    return key(first + i);
  };
  pack_keys<B, E>(next_key, block.count, key_dim, scratch.keys.data(), scratch.reach.data());
  if constexpr (std::same_as<E, float>) {
    pack_values<B>(next_value, block.count, value_dim, tile.value_stride, scratch.values.data());
  } else {
    float*     reach = scratch.reach.data();
    const auto large = [&](index_t i) { reach[i] = std::numeric_limits<float>::infinity(); };  // as a square
    if (!pack_value_pairs<B>(next_value, block.count, value_dim, tile.value_stride, scratch.values.data(), large)) {
      const std::int64_t lanes = std::int64_t{whole_weights(block.count) / 2} * tile.value_stride;
      separate_wild<B>(scratch.values.data(), lanes, scratch.wild.data());
      block.wild = scratch.wild.data();
    }
    lengths_so_far<B>(block.count, reach);
    block.reach = reach;
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
