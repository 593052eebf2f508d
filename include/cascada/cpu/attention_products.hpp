#pragma once
// The two products of attention, scores and weighted values, for a few rows: by vectors, or by matrix tiles.

#include <cstdint>
#include <type_traits>

#include "cascada/backend.hpp"
#include "cascada/cpu/amx.hpp"
#include "cascada/cpu/amx_product.hpp"
#include "cascada/cpu/attention_tile.hpp"
#include "cascada/cpu/bf16_pairs.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::kernel {

/// By the micro-kernels of attention_tile.hpp.
template <cpu_backend B, class E>
struct vector_products {
  static constexpr index_t rows = attention_tuning<B>.rows;

  /// scores [count of rows, keys] of a block's first `keys` keys; of floats with the bias, of pairs without.
  void score(const query_rows<B, E>& tile, index_t row, index_t count, const key_block& block, index_t keys,
             float* scores, std::int64_t stride) noexcept {
    score_rows(tile, row, count, block, keys, scores, stride);
  }

  /// values = values x factor + weights [count of rows, keys] x V [keys, value_stride], both in lanes.
  void add_values(const query_rows<B, E>& tile, index_t row, index_t count, const float* weights, std::int64_t stride,
                  const float* values, index_t keys, const float* factors) noexcept {
    constexpr index_t elements = elements_per_lane<E>;
    value_rows(tile, row, count, weights, stride, contiguous_values{values, tile.value_stride}, 0,
               (keys + elements - 1) / elements, factors);
  }
};

#ifdef __AMX_BF16__

/// The operands of a step of 16 pairs: a [rows, 16] and b [16, 32], strides in bytes.
struct tile_step {
  const float *upper, *lower, *right;  // a's first 16 rows and the others; b
  std::int64_t left_bytes, right_bytes;
};

/// Adds a step's products to the accumulators.
template <cpu_backend B, index_t RowTiles>
CASCADA_INLINE void multiply_step(const tile_step& step) noexcept {
  _tile_loadd(6, step.right, step.right_bytes);
  _tile_loadd(7, step.right + 16, step.right_bytes);
  _tile_loadd(4, step.upper, step.left_bytes);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (RowTiles > 1) {
    _tile_loadd(5, step.lower, step.left_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

/// multiply_step, the first of a block of c [rows, 32]; accumulators begin with what is there where `Add`. Those of the
/// block before, if there is one, are stored meanwhile, one at a time: four stores in a row would hold up the products.
template <cpu_backend B, index_t RowTiles, bool Add>
CASCADA_INLINE void multiply_first_step(const tile_step& step, bool store, float* c, std::int64_t c_stride) noexcept {
  const std::int64_t bytes = c_stride * std::int64_t{sizeof(float)};
  float*             lower = c + tile_scope<B>::rows * c_stride;
  _tile_loadd(6, step.right, step.right_bytes);
  _tile_loadd(4, step.upper, step.left_bytes);
  if (store) _tile_stored(0, c - 32, bytes);
  if constexpr (Add)
    _tile_loadd(0, c, bytes);
  else
    _tile_zero(0);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, step.right + 16, step.right_bytes);
  if (store) _tile_stored(1, c - 16, bytes);
  if constexpr (Add)
    _tile_loadd(1, c + 16, bytes);
  else
    _tile_zero(1);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (RowTiles > 1) {
    _tile_loadd(5, step.lower, step.left_bytes);
    if (store) _tile_stored(2, lower - 32, bytes);
    if constexpr (Add)
      _tile_loadd(2, lower, bytes);
    else
      _tile_zero(2);
    _tile_dpbf16ps(2, 5, 6);
    if (store) _tile_stored(3, lower - 16, bytes);
    if constexpr (Add)
      _tile_loadd(3, lower + 16, bytes);
    else
      _tile_zero(3);
    _tile_dpbf16ps(3, 5, 7);
  }
}

/// c [rows, 32 blocks] = a [rows, 16 steps] x b, or c += where `Add`: of pairs, as multiply_tiles, `block(j)` being b
/// [16 steps, 32] of block j.
template <cpu_backend B, index_t RowTiles, bool Add, class Block>
CASCADA_INLINE void multiply_blocks(const float* a, std::int64_t a_stride, index_t steps, const Block& block,
                                    std::int64_t b_stride, index_t blocks, float* c, std::int64_t c_stride) noexcept {
  if (blocks == 0) return;
  constexpr std::int64_t lane = sizeof(float), rows = tile_scope<B>::rows, pairs = tile_scope<B>::pairs;
  const std::int64_t     c_bytes = c_stride * lane;
  asm volatile("" : : : "memory");  // g++ 12's intrinsics do not say that they read memory
  for (index_t j = 0; j < blocks; ++j, c += 32) {
    tile_step now{a, a + rows * a_stride, block(j), a_stride * lane, b_stride * lane};
    multiply_first_step<B, RowTiles, Add>(now, j > 0, c, c_stride);
    for (index_t step = 1; step < steps; ++step) {
      now.upper += pairs, now.lower += pairs, now.right += pairs * b_stride;
      multiply_step<B, RowTiles>(now);
    }
  }
  float* lower = c + rows * c_stride;
  _tile_stored(0, c - 32, c_bytes);
  _tile_stored(1, c - 16, c_bytes);
  if constexpr (RowTiles > 1) {
    _tile_stored(2, lower - 32, c_bytes);
    _tile_stored(3, lower - 16, c_bytes);
  }
}

/// By matrix tiles, which want V, and the weights, on whole tiles: zero up to a multiple of 32 keys.
template <cpu_backend B>
class tile_products {
 public:
  static constexpr index_t rows = 2 * tile_scope<B>::rows;

  void score(const query_rows<B, bf16_pair>& tile, index_t row, index_t count, const key_block& block, index_t keys,
             float* scores, std::int64_t stride) noexcept {
    shape(count);
    constexpr index_t lanes = tile_scope<B>::pairs;
    const auto        panel = [&](index_t j) { return block.keys + panel_offset<B>(j * columns, tile.key_lanes); };
    multiply<false>(tile.queries + std::int64_t{row} * tile.key_lanes, tile.key_lanes, tile.key_lanes / lanes, panel,
                    block_keys<B>, (keys + columns - 1) / columns, scores, stride);
  }

  void add_values(const query_rows<B, bf16_pair>& tile, index_t row, index_t count, const float* weights,
                  std::int64_t stride, const float* values, index_t keys, const float* factors) noexcept {
    shape(count);
    constexpr index_t keys_per_step = 2 * tile_scope<B>::pairs;
    const index_t     steps = (keys + keys_per_step - 1) / keys_per_step, blocks = tile.value_stride / columns;
    float*            sums = tile.values_of(row);
    for (index_t i = 0; i < count; ++i)
      if (factors[i] != 1) scale(tile.values_of(row + i), tile.value_stride, factors[i]);
    multiply<true>(
        weights, stride, steps, [&](index_t j) { return values + j * columns; }, tile.value_stride, blocks, sums,
        tile.value_stride);
    if (const index_t c = blocks * columns; c < tile.value_stride)
      shaped_ > tile_scope<B>::rows ? multiply_tiles<B, 2, 1, true>(weights, stride, values + c, tile.value_stride,
                                                                    steps, sums + c, tile.value_stride)
                                    : multiply_tiles<B, 1, 1, true>(weights, stride, values + c, tile.value_stride,
                                                                    steps, sums + c, tile.value_stride);
  }

 private:
  static constexpr index_t columns = 2 * tile_scope<B>::columns;

  void shape(index_t count) noexcept {
    if (count != shaped_) scope_.configure(count);
    shaped_ = count;
  }

  template <bool Add, class... Arguments>
  CASCADA_INLINE void multiply(const Arguments&... arguments) noexcept {
    if (shaped_ > tile_scope<B>::rows)
      multiply_blocks<B, 2, Add>(arguments...);
    else
      multiply_blocks<B, 1, Add>(arguments...);
  }

  static void scale(float* values, index_t count, float factor) noexcept {
    for (index_t c = 0; c < count; c += vec<B>::width)
      (vec<B>::load(values + c) * vec<B>::broadcast(factor)).store(values + c);
  }

  tile_scope<B> scope_;
  index_t       shaped_ = rows;
};

#endif

/// function(products) by the fastest that this process may use.
template <cpu_backend B, class E, class Function>
CASCADA_INLINE void with_products(const Function& function) noexcept {
#ifdef __AMX_BF16__
  if constexpr (!std::same_as<E, float> && contains(B::instructions, isa::amx_bf16))
    if (tiles_permitted<B>()) return function(tile_products<B>());
#endif
  function(vector_products<B, E>());
}

}  // namespace cascada::kernel
