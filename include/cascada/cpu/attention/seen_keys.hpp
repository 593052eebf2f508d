#pragma once
// Which keys of a block a few rows see, and what all of them see together.

#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The keys that rows of a tile see of a block whose scores are adjusted.
template <index_t Rows>
struct seen_ranges {
  index_t first[extent(Rows)], end[extent(Rows)];  // of the keys; first == end: none
  index_t from = 0, most = 0;                      // the least of the firsts, on a grid, and the largest end
  bool    any = false;                             // whether rows see keys

  /// `grid`: a row's sums begin there, or at a multiple behind it, with exact zeros.
  template <class Tile>
  CASCADA_INLINE seen_ranges(const Tile& tile, index_t row, index_t rows, const key_block& block,
                             index_t grid) noexcept {
    for (index_t i = 0; i < rows; ++i) {
      const index_t token = (row + i) / tile.group, hidden = block.hidden(token);
      end[i]          = block.visible(token);
      first[i]        = hidden < end[i] ? hidden : end[i];
      const bool sees = first[i] < end[i];
      if (sees && (!any || first[i] < from)) from = first[i];
      if (sees) most = end[i];
      any |= sees;
    }
    from -= from % grid;
  }
};

/// add(i, count, begin, stop, factors) for rows i that see keys [first[i], end[i]) of a block, in the order of the
/// keys: together where all of them see, before and behind it each its own. A row's factor, by which what it has seen
/// so far shrinks, goes with its first keys here, and is 1 from there on.
template <class Add>
CASCADA_INLINE void add_what_rows_see(index_t rows, const index_t* first, const index_t* end, float* factors,
                                      const Add& add) noexcept {
  index_t last_first = first[0], first_end = end[0];
  bool    all = first[0] < end[0];
  for (index_t i = 1; i < rows; ++i) {
    last_first = first[i] > last_first ? first[i] : last_first;
    first_end  = end[i] < first_end ? end[i] : first_end;
    all &= first[i] < end[i];
  }
  const bool together = all && last_first < first_end;
  const auto alone    = [&](index_t i, index_t begin, index_t stop) {
    if (begin < stop) add(i, 1, begin, stop, factors + i), factors[i] = 1;
  };
  for (index_t i = 0; i < rows; ++i) alone(i, first[i], together ? last_first : end[i]);
  if (!together) return;
  add(0, rows, last_first, first_end, factors);
  for (index_t i = 0; i < rows; ++i) factors[i] = 1;
  for (index_t i = 0; i < rows; ++i) alone(i, first_end, end[i]);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
