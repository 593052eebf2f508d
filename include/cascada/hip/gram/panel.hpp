#pragma once
// Verdicts of a whole panel on a block's tokens, as bits.

#include <cstdint>

#include "cascada/hip/gram/tile.hpp"

namespace cascada::inline CASCADA_ABI::hip::gram {

/// What a block shares whose 64 columns meet one panel.
struct gram_panel_shared {
  gram_tile::shared tile;
  gram_columns      columns;
  gram_panel        panel;
};

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
