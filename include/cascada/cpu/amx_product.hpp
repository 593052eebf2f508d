#pragma once
// Products of pairs of bfloat16 by matrix tiles.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/amx.hpp"

namespace cascada::kernel {

#ifdef __AMX_BF16__

/// c [rows, 16 Columns] = a [rows, 16 steps] x b [16 steps, 16 Columns], where a and b are pairs, or c += where `Add`.
/// Strides are in lanes; b's second 16 columns lie `b_next` behind the first. Rows: those of the scope, 16 per row
/// tile. Products are exact, sums float in the order of the pairs; subnormal numbers count as zero.
template <cpu_backend B, index_t RowTiles, index_t Columns, bool Add>
CASCADA_INLINE void multiply_tiles(const float* a, std::int64_t a_stride, const float* b, std::int64_t b_stride,
                                   index_t steps, float* c, std::int64_t c_stride,
                                   [[maybe_unused]] std::int64_t b_next = 16) noexcept {
  constexpr std::int64_t lane   = sizeof(float);
  float*                 second = c + tile_scope<B>::rows * c_stride;
  a_stride *= lane, b_stride *= lane, c_stride *= lane;
  asm volatile("" : : : "memory");  // g++ 12's intrinsics do not say that they read memory
  if constexpr (Add) {
    _tile_loadd(0, c, c_stride);
    if constexpr (Columns > 1) _tile_loadd(1, c + 16, c_stride);
    if constexpr (RowTiles > 1) _tile_loadd(2, second, c_stride);
    if constexpr (RowTiles > 1 && Columns > 1) _tile_loadd(3, second + 16, c_stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (index_t step = 0; step < steps; ++step) {
    _tile_loadd(6, b, b_stride);
    if constexpr (Columns > 1) _tile_loadd(7, b + b_next, b_stride);
    _tile_loadd(4, a, a_stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (Columns > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (RowTiles > 1) {
      _tile_loadd(5, a + tile_scope<B>::rows * a_stride / lane, a_stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (Columns > 1) _tile_dpbf16ps(3, 5, 7);
    }
    a += tile_scope<B>::pairs, b += tile_scope<B>::pairs * b_stride / lane;
  }
  _tile_stored(0, c, c_stride);
  if constexpr (Columns > 1) _tile_stored(1, c + 16, c_stride);
  if constexpr (RowTiles > 1) _tile_stored(2, second, c_stride);
  if constexpr (RowTiles > 1 && Columns > 1) _tile_stored(3, second + 16, c_stride);
}

#endif

}  // namespace cascada::kernel
