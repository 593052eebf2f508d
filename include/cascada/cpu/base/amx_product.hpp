#pragma once
// Products of pairs of bfloat16 by matrix tiles.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/amx.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

#ifdef __AMX_BF16__

/// The operands of a step of 16 pairs: a [rows, 16] and b [16, 32], strides in bytes.
struct tile_step {
  const float *upper, *lower;  // a's first 16 rows, and the others
  const float *right, *next;   // b's first 16 columns, and the others
  std::int64_t left_bytes, right_bytes;

  CASCADA_INLINE void advance(std::int64_t b_stride) noexcept {
    upper += pairs;
    lower += pairs;
    right += pairs * b_stride;
    next += pairs * b_stride;
  }
  static constexpr std::int64_t pairs = 16;
};

/// Adds a step's products to the accumulators: 16 Columns of them.
template <cpu_backend B, index_t RowTiles, index_t Columns>
CASCADA_INLINE void multiply_step(const tile_step& step) noexcept {
  _tile_loadd(6, step.right, step.right_bytes);
  if constexpr (Columns > 1) _tile_loadd(7, step.next, step.right_bytes);
  _tile_loadd(4, step.upper, step.left_bytes);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (Columns > 1) _tile_dpbf16ps(1, 4, 7);
  if constexpr (RowTiles > 1) {
    _tile_loadd(5, step.lower, step.left_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (Columns > 1) _tile_dpbf16ps(3, 5, 7);
  }
}

/// The accumulators to c [rows, 16 Columns].
template <cpu_backend B, index_t RowTiles, index_t Columns>
CASCADA_INLINE void store_sums(float* c, std::int64_t c_stride) noexcept {
  const std::int64_t bytes = c_stride * std::int64_t{sizeof(float)};
  float*             lower = c + tile_scope<B>::rows * c_stride;
  _tile_stored(0, c, bytes);
  if constexpr (Columns > 1) _tile_stored(1, c + 16, bytes);
  if constexpr (RowTiles > 1) _tile_stored(2, lower, bytes);
  if constexpr (RowTiles > 1 && Columns > 1) _tile_stored(3, lower + 16, bytes);
}

/// c [rows, 16 Columns] = a [rows, 16 steps] x b [16 steps, 16 Columns], where a and b are pairs, or c += where `Add`.
/// Strides are in lanes; b's second 16 columns lie `b_next` behind the first. Rows: those of the scope, 16 per row
/// tile. Products are exact, sums float in the order of the pairs; subnormal numbers count as zero.
template <cpu_backend B, index_t RowTiles, index_t Columns, bool Add>
CASCADA_INLINE void multiply_tiles(const float* a, std::int64_t a_stride, const float* b, std::int64_t b_stride,
                                   index_t steps, float* c, std::int64_t c_stride, std::int64_t b_next = 16) noexcept {
  constexpr std::int64_t lane = sizeof(float), rows = tile_scope<B>::rows;
  const std::int64_t     bytes  = c_stride * lane;
  float*                 second = c + rows * c_stride;
  tile_step              now{a, a + rows * a_stride, b, b + b_next, a_stride * lane, b_stride * lane};
  asm volatile("" : : : "memory");  // g++ 12's intrinsics do not say that they read memory
  if constexpr (Add) {
    _tile_loadd(0, c, bytes);
    if constexpr (Columns > 1) _tile_loadd(1, c + 16, bytes);
    if constexpr (RowTiles > 1) _tile_loadd(2, second, bytes);
    if constexpr (RowTiles > 1 && Columns > 1) _tile_loadd(3, second + 16, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (index_t step = 0; step < steps; ++step) {
    multiply_step<B, RowTiles, Columns>(now);
    now.advance(b_stride);
  }
  store_sums<B, RowTiles, Columns>(c, c_stride);
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
  _tile_loadd(7, step.next, step.right_bytes);
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
  constexpr std::int64_t lane = sizeof(float), rows = tile_scope<B>::rows;
  asm volatile("" : : : "memory");  // g++ 12's intrinsics do not say that they read memory
  for (index_t j = 0; j < blocks; ++j, c += 32) {
    const float* const b = block(j);
    tile_step          now{a, a + rows * a_stride, b, b + 16, a_stride * lane, b_stride * lane};
    multiply_first_step<B, RowTiles, Add>(now, j > 0, c, c_stride);
    for (index_t step = 1; step < steps; ++step) {
      now.advance(b_stride);
      multiply_step<B, RowTiles, 2>(now);
    }
  }
  store_sums<B, RowTiles, 2>(c - 32, c_stride);
}

#endif

}  // namespace cascada::inline CASCADA_ABI::kernel
