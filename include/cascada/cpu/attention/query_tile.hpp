#pragma once
// Memory of a tile of query rows, and how many tokens it takes.

#include <concepts>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/attention/row_lengths.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Query rows with the memory behind them.
template <cpu_backend B, class E = float>
class query_tile {
 public:
  void reserve(std::int64_t rows, index_t key_dim, index_t value_dim) {
    queries_.reserve(rows * lanes_of<B, E>(key_dim));
    if constexpr (!std::same_as<E, float>) lengths_.reserve(rows);
    maxima_.reserve(rows);
    sums_.reserve(rows * vec<B>::width);
    values_.reserve(rows * whole_vectors<B>(value_dim));
  }

  /// Rows for `tokens` tokens of a KV group that have seen nothing; the queries are left to fill in.
  query_rows<B, E> begin(index_t tokens, index_t group, index_t key_dim, index_t value_dim) noexcept {
    const query_rows<B, E> tile = {.rows         = tokens * group,
                                   .group        = group,
                                   .key_lanes    = lanes_of<B, E>(key_dim),
                                   .value_stride = whole_vectors<B>(value_dim),
                                   .queries      = queries_.data(),
                                   .lengths      = lengths_.data(),
                                   .maxima       = maxima_.data(),
                                   .sums         = sums_.data(),
                                   .values       = values_.data()};
    clear(tile);
    if constexpr (!std::same_as<E, float>)
      for (index_t row = 0; row < tile.rows; ++row) tile.lengths[row] = unknown_length;
    return tile;
  }

 private:
  buffer<float, B> queries_, lengths_, maxima_, sums_, values_;
};

/// Query tokens of a tile at most: enough rows to repay the packing of keys, few enough for the L2 cache.
template <cpu_backend B, class E>
CASCADA_INLINE index_t tile_tokens(index_t group, index_t key_dim, index_t value_dim) noexcept {
  constexpr index_t most = 2048, lanes = 1 << 19;  // 2 MB of queries and values
  const index_t     fit  = lanes / (lanes_of<B, E>(key_dim) + whole_vectors<B>(value_dim));
  const index_t     rows = fit < most ? fit : most;
  return group < rows ? rows / group : 1;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
