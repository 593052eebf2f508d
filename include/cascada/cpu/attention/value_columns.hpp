#pragma once
// Values that lie by dimension, as in a transposed cache: a dimension's elements of successive keys side by side.
//
// A strip, as many dimensions as a vector has lanes, is read once along the keys of a block, in patches that are
// transposed in registers. Every sum is in the order of keys, as that of rows of values is.

#include <cstdint>
#include <type_traits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/value_watch.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Whether a row's elements do not lie side by side.
template <row_scalar Scalar>
CASCADA_INLINE bool is_apart(const strided_row<Scalar>& row) noexcept {
  return row.step != 1;
}
template <computed_row Row>
CASCADA_INLINE bool is_apart(const Row&) noexcept {
  return false;
}

/// What rows consist of.
template <class Row>
using stored_in = std::remove_cvref_t<decltype(*Row().data)>;

/// Keys of a patch.
template <cpu_backend B, class E>
inline constexpr index_t patch_keys = vec<B>::width * elements_per_lane<E>;

/// Bytes of a dimension between an element's being asked for and its being read: eight lines, so that of a strip's
/// dimensions 8 KiB are on their way.
inline constexpr index_t column_bytes_ahead = 512;

/// The values of one KV head for a block of keys: dimension c of key i lies at at[i][c * step].
template <cpu_backend B, class E, row_scalar Scalar>
struct value_columns {
  static constexpr index_t keys_of_line = 64 / static_cast<index_t>(sizeof(Scalar));
  static constexpr index_t keys_ahead   = column_bytes_ahead / static_cast<index_t>(sizeof(Scalar));

  const Scalar* at[block_keys<B, E>];
  index_t       count = 0;
  std::int64_t  step  = 1;

  template <class Value>
  CASCADA_INLINE void begin(const Value& value, index_t keys) noexcept {
    count = keys;
    step  = value(0).step;
    for (index_t i = 0; i < keys; ++i) at[i] = value(i).data;
  }
  /// Whether the keys of a patch lie side by side, in their order.
  CASCADA_INLINE bool in_order(index_t first) const noexcept {
    bool all = true;
    for (index_t i = 1; i < patch_keys<B, E>; ++i) all &= at[first + i] == at[first] + i;
    return all;
  }
  /// Asks for a line of each dimension of a strip.
  CASCADA_INLINE void ask(index_t key, index_t c) const noexcept {
    for (index_t i = 0; i < vec<B>::width; ++i) __builtin_prefetch(at[key] + (c + i) * step);
  }
  /// Asks, at the first keys of a line, for what is read later: of the same strip, then of the next of `dim`
  /// dimensions.
  CASCADA_INLINE void ask_later(index_t key, index_t c, index_t dim) const noexcept {
    if (key % keys_of_line != 0) return;
    if (key + keys_ahead < count)
      ask(key + keys_ahead, c);
    else if (const index_t beyond = key + keys_ahead - count; c + vec<B>::width < dim && beyond < count)
      ask(beyond, c + vec<B>::width);
  }
};

/// Asks for the first keys of the first strip of values value(i), i < count.
template <cpu_backend B, class Value>
CASCADA_INLINE void ask_for_strip(const Value& value, index_t count) noexcept {
  using columns = value_columns<B, float, stored_in<decltype(value(0))>>;
  for (index_t key = 0; key < count && key < columns::keys_ahead; key += columns::keys_of_line)
    for (index_t i = 0; i < vec<B>::width; ++i) {
      const auto row = value(key);
      __builtin_prefetch(row.data + i * row.step);
    }
}

/// Dimensions [c, c + width) of the keys of a patch, which lie side by side: a vector for each lane of keys.
template <cpu_backend B, class E, row_scalar Scalar>
CASCADA_INLINE void load_patch(const value_columns<B, E, Scalar>& columns, index_t first, index_t c,
                               vec<B> (&patch)[extent(vec<B>::width)]) noexcept {
#pragma GCC         unroll 16
  for (index_t i = 0; i < vec<B>::width; ++i)
    patch[i] = whole_lanes<B, E>(columns.at[first] + (c + i) * columns.step, 0);
  transpose(patch);
}

/// sum [Rows] += weights x V for a strip of dimensions from c, and the keys of a patch that lie side by side.
template <cpu_backend B, class E, index_t Rows, row_scalar Scalar>
CASCADA_INLINE void add_patch(const value_columns<B, E, Scalar>& columns, index_t first, index_t c,
                              const float* weights, std::int64_t stride, vec<B> (&sum)[extent(Rows)],
                              value_watch<B, E>& watch) noexcept {
  vec<B> patch[extent(vec<B>::width)];
  load_patch(columns, first, c, patch);
#pragma GCC unroll 16
  for (index_t lane = 0; lane < vec<B>::width; ++lane) {
    watch.see(patch[lane]);
#pragma GCC unroll 8
    for (index_t r = 0; r < Rows; ++r)
      sum[r] = add_products<E>(vec<B>::broadcast(weights[r * stride + lane]), patch[lane], sum[r]);
  }
}

/// The same for the first `count` keys of a patch, wherever they lie.
template <cpu_backend B, class E, index_t Rows, row_scalar Scalar>
CASCADA_INLINE void add_gathered(const value_columns<B, E, Scalar>& columns, index_t first, index_t count, index_t c,
                                 const float* weights, std::int64_t stride, vec<B> (&sum)[extent(Rows)],
                                 value_watch<B, E>& watch) noexcept {
  constexpr index_t width = vec<B>::width, pair = elements_per_lane<E>;
  Scalar            elements[extent(width * width * pair)] = {};  // [lane of keys, width, pair]
  for (index_t i = 0; i < width; ++i)
    for (index_t j = 0; j < count; ++j)
      elements[(j / pair * width + i) * pair + j % pair] = columns.at[first + j][(c + i) * columns.step];
  for (index_t lane = 0; lane < (count + pair - 1) / pair; ++lane) {
    const auto value = whole_lanes<B, E>(static_cast<const Scalar*>(elements), lane * width);
    watch.see(value);
#pragma GCC unroll 8
    for (index_t r = 0; r < Rows; ++r)
      sum[r] = add_products<E>(vec<B>::broadcast(weights[r * stride + lane]), value, sum[r]);
  }
}

/// values = values x factor + weights x V for `count` rows of a tile from `row`, 1 to Rows, all columns, and the keys
/// [first, end) of a block; of pairs, from an even one. `weights` begin at `first`. Flat, as pack_keys.
template <cpu_backend B, class E, row_scalar Scalar, index_t Rows>
[[gnu::flatten]] void add_columns(const query_rows<B, E>& tile, index_t row, index_t count,
                                  const value_columns<B, E, Scalar>& columns, index_t first, index_t end,
                                  const float* weights, std::int64_t stride, const float* factors,
                                  value_watch<B, E>& watch) noexcept {
  if constexpr (Rows > 1)
    if (count < Rows)
      return add_columns<B, E, Scalar, Rows - 1>(tile, row, count, columns, first, end, weights, stride, factors,
                                                 watch);
  constexpr index_t width = vec<B>::width, keys = patch_keys<B, E>;
  bool              in_order[extent(block_keys<B, E> / keys)];
  for (index_t key = first; key + keys <= end; key += keys) in_order[(key - first) / keys] = columns.in_order(key);
  value_watch<B, E> seen = watch;
  for (index_t c = 0; c < tile.value_stride; c += width) {
    float* values = tile.values_of(row) + c;
    vec<B> sum[extent(Rows)];
#pragma GCC unroll 8
    for (index_t r = 0; r < Rows; ++r)
      sum[r] = vec<B>::load(values + r * tile.value_stride) * vec<B>::broadcast(factors[r]);
    for (index_t key = first; key < end; key += keys) {
      const float* own = weights + (key - first) / elements_per_lane<E>;
      columns.ask_later(key, c, tile.value_stride);
      if (key + keys <= end && in_order[(key - first) / keys])
        add_patch<B, E, Rows>(columns, key, c, own, stride, sum, seen);
      else
        add_gathered<B, E, Rows>(columns, key, end - key < keys ? end - key : keys, c, own, stride, sum, seen);
    }
#pragma GCC unroll 8
    for (index_t r = 0; r < Rows; ++r) sum[r].store(values + r * tile.value_stride);
  }
  watch = seen;
}

/// rows [count, stride] of value(0) .. value(count - 1), which lie by dimension, zero beyond dim. Flat, as pack_keys.
template <cpu_backend B, class Value>
[[gnu::flatten]] void pack_columns(const Value& value, index_t count, index_t dim, index_t stride,
                                   float* rows) noexcept {
  constexpr index_t                                      width = vec<B>::width;
  value_columns<B, float, stored_in<decltype(value(0))>> columns;
  columns.begin(value, count);
  for (index_t c = 0; c < stride; c += width)
    for (index_t key = 0; key < count; key += width) {
      float* to = rows + std::int64_t{key} * stride + c;
      if (c + width <= dim && key + width <= count && columns.in_order(key)) {
        vec<B> patch[extent(width)];
        load_patch(columns, key, c, patch);
        for (index_t j = 0; j < width; ++j) patch[j].store(to + std::int64_t{j} * stride);
        continue;
      }
      for (index_t i = 0; i < width; ++i)
        for (index_t j = 0; j < width && key + j < count; ++j)
          to[std::int64_t{j} * stride + i] = c + i < dim ? to_float(columns.at[key + j][(c + i) * columns.step]) : 0.0f;
    }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
