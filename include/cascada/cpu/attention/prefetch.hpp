#pragma once
// Rows that are asked for before they are read: those of a head lie too far apart for the hardware to guess the next.

#include "cascada/computed_rows.hpp"
#include "cascada/config.hpp"
#include "cascada/kv_view.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// How many rows before it is read or written a row is asked for: while those are worked on it comes from memory, and
/// of 128 floats they fill 8 KiB of the L1 cache.
inline constexpr index_t rows_ahead = 16;

/// Elements of a computed row that one request for a line of memory brings.
inline constexpr index_t elements_asked_for = 32;

template <bool Write = false, class Scalar>
CASCADA_INLINE void prefetch_row(Scalar* row, index_t dim) noexcept {
  for (index_t c = 0; c < dim; c += 64 / static_cast<index_t>(sizeof(Scalar))) __builtin_prefetch(row + c, Write);
}
template <class Scalar>
CASCADA_INLINE void prefetch_row(const strided_row<Scalar>& row, index_t dim) noexcept {
  if (row.step == 1) prefetch_row(row.data, dim);
}
template <computed_row Row>
CASCADA_INLINE void prefetch_row(const Row& row, index_t dim) noexcept {
  for (index_t c = 0; c < dim; c += elements_asked_for) __builtin_prefetch(row.address(c));
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
