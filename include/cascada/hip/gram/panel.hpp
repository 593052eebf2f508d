#pragma once
// Tokens that meet: 64 of a block, the columns of a tile, and a panel of 128, its rows; and all their verdicts, as
// bits.

#include <cstdint>

#include "cascada/hip/base/votes.hpp"
#include "cascada/hip/gram/tile.hpp"

namespace cascada::inline CASCADA_ABI::hip::gram {

/// Tokens of a block, in order: the columns of a tile.
struct gram_columns {
  index_t token[gram_tile::columns];
  float   norm[gram_tile::columns];
  index_t count;  // in use; those beyond read some token, and nobody looks at their sums

  /// By one wave: a lane that `takes` has its token, of number `local` from `begin` on, made a column. Returns which.
  template <class Gpu, matrix_scalar Scalar>
  CASCADA_DEVICE CASCADA_INLINE index_t gather(Gpu& gpu, const gram_rows<Scalar>& rows, index_t begin, bool takes,
                                               index_t local) {
    const std::uint64_t votes = gpu.ballot(takes);
    const index_t       own = voters_below(gpu, votes), all = voters(votes);
    if (takes) token[own] = begin + local, norm[own] = rows.norms[begin + local];
    if (gpu.lane() >= all) token[gpu.lane()] = begin;
    if (gpu.lane() == 0) count = all;
    return own;
  }
};

/// Tokens at 128 places of a list: the rows of a tile, 32 to a wave. Beyond the last one the last once more.
struct gram_panel {
  static constexpr index_t rows = 32 * gram_tile::waves;

  /// How many of the tokens at places from `first` to `last` it has.
  CASCADA_DEVICE CASCADA_INLINE static constexpr index_t used(index_t first, index_t last) {
    return last - first < rows ? last - first : rows;
  }

  index_t token[rows];
  float   norm[rows];

  /// The place of row `r` of the panel that begins at place `first` of `end`.
  CASCADA_DEVICE CASCADA_INLINE static constexpr index_t place(index_t first, index_t end, index_t r) {
    return first + r < end ? first + r : end - 1;
  }

  /// Token i as row `r`.
  template <matrix_scalar Scalar>
  CASCADA_DEVICE CASCADA_INLINE void load(const gram_rows<Scalar>& of, index_t i, index_t r) {
    token[r] = i, norm[r] = of.norms[i];
  }
};

/// What a block shares whose 64 columns meet one panel.
struct gram_panel_shared {
  gram_tile::shared tile;
  gram_columns      columns;
  gram_panel        panel;
};

/// The first wave finds the columns, those of the tokens from `begin` on that take(i), and the next two the rows: that
/// of token_at(r) is row r. Returns how many columns are in use.
template <class Gpu, matrix_scalar Scalar, class Takes, class TokenAt>
CASCADA_DEVICE CASCADA_INLINE index_t gather_panel(Gpu& gpu, gram_panel_shared& lds, const gram_rows<Scalar>& of,
                                                   index_t begin, const Takes& takes, const TokenAt& token_at) {
  constexpr index_t wave = gfx942::wave;
  if (gpu.wave() == 0) {
    lds.columns.gather(gpu, of, begin, takes(begin + gpu.lane()), gpu.lane());
  } else if (gpu.thread() < wave + gram_panel::rows) {
    const index_t r = gpu.thread() - wave;
    lds.panel.load(of, token_at(r), r);
  }
  gpu.barrier();
  return gpu.uniform(lds.columns.count);
}

/// Each wave's 32 rows against all columns in use. `rows(column)`: how many of them a column is judged with;
/// `store(column, bits)` hears once of each column which of them cover its token. `pairs` counts those that the
/// canonical product decided.
template <class Gpu, matrix_scalar Scalar, class Rows, class Store>
CASCADA_DEVICE CASCADA_INLINE void judge_panel(Gpu& gpu, gram_panel_shared& lds, const gram_rows<Scalar>& of,
                                               const Rows& rows, const Store& store, std::int64_t& pairs) {
  const index_t first_row = 32 * gpu.wave();
  sums_16       sums[2];
  multiply<2>(
      gpu, lds.tile, of.x.cols, of.x.row(lds.panel.token[first_row + gpu.lane() % 32]),
      [&](index_t c) { return of.x.row(lds.columns.token[c]); }, 0, sums);
#pragma GCC unroll 2
  for (index_t t = 0; t < 2; ++t) {
    const index_t       column = 32 * t + gpu.lane() % 32;
    const bool          exists = column < lds.columns.count;
    const judged_token  token(of, lds.columns.token[column], lds.columns.norm[column]);
    const std::uint32_t bits = rows_that_cover(gpu, token, sums[t], lds.panel.token + first_row,
                                               lds.panel.norm + first_row, exists ? rows(column) : 0, pairs);
    if (gpu.lane() < 32 && exists) store(column, bits);
  }
}

}  // namespace cascada::inline CASCADA_ABI::hip::gram
