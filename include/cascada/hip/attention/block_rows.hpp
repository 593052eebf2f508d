#pragma once
// Rows of queries that a block of threads has: two threads to a row, 32 rows to a wave.

#include <cstdint>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

inline constexpr index_t rows_of_block = 128, threads_of_block = 2 * rows_of_block, waves_of_block = rows_of_block / 32;

/// Blocks for `tokens` tokens of a KV group.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t blocks_of_rows(std::int64_t tokens, index_t group) {
  return static_cast<index_t>((tokens * group + rows_of_block - 1) / rows_of_block);
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
