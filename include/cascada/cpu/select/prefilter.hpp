#pragma once
// Which estimates a selection begins with, and what they cost.

#include <cstdint>

#include "cascada/cpu/gram/products.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

using namespace gram;

/// When estimates pay. A recheck takes as long as `recheck` products in tiles.
struct prefilter_shape {
  index_t recheck       = 3;
  index_t sketch_parts  = 8;      // the first sketch has one of so many coordinates
  bool    vectors_pay   = false;  // whether bfloat16 vectors outrun float ones
  index_t least_columns = 32;     // rows shorter than this are compared in full
};

/// Cores with matrix instructions take two cycles for a vector of bfloat16 pairs, a quarter of their rate for floats
/// (measured on Sapphire Rapids); those without, such as Zen 4, one.
template <cpu_backend B>
inline constexpr prefilter_shape prefilter_tuning = {.vectors_pay = multiplies_pairs<B> && !has_bf16_tiles<B>};

/// Columns of products that a kind multiplies.
template <product_kind Kind, cpu_backend B>
CASCADA_INLINE constexpr index_t depth_of(index_t cols) noexcept {
  if (Kind == product_kind::full) return cols;
  if (Kind == product_kind::sketch)
    return (cols + prefilter_tuning<B>.sketch_parts - 1) / prefilter_tuning<B>.sketch_parts;
  return lanes_of<B, bf16_pair>(cols);
}

/// The cost of one product in units of a full one, times 64; of a matrix product 64 / 16, of a vector of pairs half.
template <product_kind Kind>
CASCADA_INLINE constexpr std::int64_t cost_of(index_t depth, index_t cols) noexcept {
  if (Kind == product_kind::bf16_tiles) return 4;
  if (Kind == product_kind::bf16_vectors) return 32;
  return 64 * std::int64_t{depth} / cols;
}

/// The estimates that an option stands for, on this target and for rows of this length.
template <cpu_backend B>
prefilter chosen_prefilter(prefilter filter, index_t cols) noexcept {
  if (cols >= (1 << 20)) return prefilter::none;  // no margin decides anything
  const auto tiles = [] { return has_bf16_tiles<B> && tiles_permitted<B>(); };
  switch (filter) {
    case prefilter::automatic:
      if (cols < prefilter_tuning<B>.least_columns) return prefilter::none;
      return tiles() ? prefilter::bf16_tiles : prefilter::sketch;
    case prefilter::bf16_tiles: return tiles() ? filter : prefilter::none;
    case prefilter::bf16_vectors: return multiplies_pairs<B> ? filter : prefilter::none;
    case prefilter::none:
    case prefilter::sketch: return filter;
  }
  return filter;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
