#pragma once
// The two products of attention, scores and weighted values, for a few rows: by vectors, or by matrix tiles.

#include <cstdint>
#include <type_traits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/base/amx.hpp"
#include "cascada/cpu/base/amx_product.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// By the micro-kernels of tile.hpp.
template <cpu_backend B, class E>
struct vector_products {
  static constexpr index_t rows = attention_tuning<B>.rows;

  /// scores [count of rows, keys] of a block's first `keys` keys; of floats with the bias, of pairs without.
  void score(const query_rows<B, E>& tile, index_t row, index_t count, const key_block& block, index_t keys,
             float* scores, std::int64_t stride) noexcept {
    score_rows(tile, row, count, block, keys, scores, stride);
  }

  /// values = values x factor + weights [count of rows, keys] x V [keys, value_stride] from a block, both in lanes.
  void add_values(const query_rows<B, E>& tile, index_t row, index_t count, const float* weights, std::int64_t stride,
                  const key_block& block, index_t keys, const float* factors) noexcept {
    constexpr index_t elements = elements_per_lane<E>;
    const index_t     lanes    = (keys + elements - 1) / elements;
    if (block.kept == summary_type::bytes)
      return value_rows<B, E, rows, byte_four>(tile, row, count, weights, stride, block.values, 0, lanes, factors);
    if constexpr (std::same_as<E, float>)
      if (block.kept == summary_type::bfloat16)
        return value_rows<B, float, rows, bf16_pair>(tile, row, count, weights, stride, block.values, 0, lanes,
                                                     factors);
    value_rows(tile, row, count, weights, stride, block.values, 0, lanes, factors);
  }
};

#ifdef __AMX_BF16__

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
                    panel_keys<B>, (keys + columns - 1) / columns, scores, stride);
  }

  void add_values(const query_rows<B, bf16_pair>& tile, index_t row, index_t count, const float* weights,
                  std::int64_t stride, const key_block& block, index_t keys, const float* factors) noexcept {
    const float* values = block.values;
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

/// Whether operands of E are multiplied by matrix tiles here, which add in another order than vectors.
template <cpu_backend B, class E>
CASCADA_INLINE bool multiplies_by_tiles() noexcept {
  return !std::same_as<E, float> && tiles_permitted<B>();
}

/// function(products) by the fastest that this process may use, and that can read what is `kept`.
template <cpu_backend B, class E, class Function>
CASCADA_INLINE void with_products([[maybe_unused]] summary_type kept, const Function& function) noexcept {
#ifdef __AMX_BF16__
  if constexpr (!std::same_as<E, float> && contains(B::instructions, isa::amx_bf16))
    if (kept != summary_type::bytes && multiplies_by_tiles<B, E>()) return function(tile_products<B>());
#endif
  function(vector_products<B, E>());
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
