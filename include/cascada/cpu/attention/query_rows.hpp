#pragma once
// Query rows with their running softmax.

#include <concepts>
#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/shapes.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Query rows with their running softmax, token-major, the heads of a KV group side by side.
template <cpu_backend B, class E = float>
struct query_rows {
  index_t rows         = 0;
  index_t group        = 1;  // rows per token: query heads of the KV group
  index_t key_lanes    = 0;
  index_t value_stride = 0;        // whole vectors
  float   scale        = 1;        // of scores that the queries do not carry
  float*  queries      = nullptr;  // [rows, key_lanes]
  float*  lengths      = nullptr;  // pairs: of the queries, times scale, or unknown_length, [rows]
  float*  maxima       = nullptr;  // [rows]
  float*  sums         = nullptr;  // [rows, vec width]: each lane its share of the weights
  float*  values       = nullptr;  // [rows, value_stride], times the sum

  /// The rows of tokens [first, first + tokens).
  CASCADA_INLINE query_rows part(index_t first, index_t tokens) const noexcept {
    query_rows some = *this;
    some.rows       = tokens * group;
    some.queries += std::int64_t{first} * group * key_lanes;
    if constexpr (!std::same_as<E, float>) some.lengths += first * group;
    some.maxima += first * group;
    some.sums += first * group * vec<B>::width;
    some.values += std::int64_t{first} * group * value_stride;
    return some;
  }

  CASCADA_INLINE float* values_of(index_t row) const noexcept { return values + std::int64_t{row} * value_stride; }
  CASCADA_INLINE float  sum(index_t row) const noexcept { return reduce_sum(vec<B>::load(sums + row * vec<B>::width)); }
};

/// Nothing seen yet.
template <cpu_backend B, class E>
void clear(const query_rows<B, E>& tile) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    tile.maxima[row] = std::numeric_limits<float>::lowest();
    vec<B>::zero().store(tile.sums + row * vec<B>::width);
    for (index_t c = 0; c < tile.value_stride; c += vec<B>::width) vec<B>::zero().store(tile.values_of(row) + c);
  }
}

/// Takes a row that attended to other keys into a row of the tile: log-sum-exp of the two.
template <cpu_backend B, class E>
void merge_row(const query_rows<B, E>& tile, index_t row, const query_rows<B, E>& other, index_t other_row) noexcept {
  const float mine = tile.maxima[row], its = other.maxima[other_row];
  const float now       = its > mine ? its : mine;
  const auto  my_share  = exp2(vec<B>::broadcast(mine) - vec<B>::broadcast(now));
  const auto  its_share = exp2(vec<B>::broadcast(its) - vec<B>::broadcast(now));
  const auto  merge     = [&](float* a, const float* b) {
    multiply_add(vec<B>::load(b), its_share, vec<B>::load(a) * my_share).store(a);
  };
  tile.maxima[row] = now;
  merge(tile.sums + row * vec<B>::width, other.sums + other_row * vec<B>::width);
  for (index_t c = 0; c < tile.value_stride; c += vec<B>::width)
    merge(tile.values_of(row) + c, other.values_of(other_row) + c);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
