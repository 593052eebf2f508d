#pragma once
// Rows that are computed: floats that lie in memory as something smaller. q8_0.hpp has such a format.

#include <concepts>
#include <type_traits>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

/// One key or value whose elements are computed, the second kind of row beside strided_row: a small handle, copied
/// freely and read by several threads at once, that a view makes for each (token, head). Attention over such rows is
/// attention over the floats that they stand for, bit for bit. A default handle exists but is never read.
///
/// row[c]                 element c as a float
/// row.load(c, count, to) elements [c, c + count), as row[] has them, to `to`. Whole rows, and parts of up to 16
///                        elements that begin at a multiple of their number
/// row.address(c)         about where element c lies, to ask for it ahead of time; nothing is read there
template <class Row>
concept computed_row = std::is_trivially_copyable_v<Row> && std::default_initializable<Row> &&
                       requires(const Row& row, index_t c, index_t count, float* to) {
                         { row[c] } noexcept -> std::same_as<float>;
                         { row.load(c, count, to) } noexcept -> std::same_as<void>;
                         { row.address(c) } noexcept -> std::convertible_to<const void*>;
                       };

/// A few successive elements of a row in one piece of memory: Block::elements of them. A type of your own with the
/// members of q8_0_block, beside of(), is a format of rows in strided_kv and paged_kv.
template <class Block>
concept row_block =
    std::is_trivially_copyable_v<Block> && requires(const Block& block, index_t c, index_t count, float* to) {
      requires Block::elements >= 1;
      { block[c] } noexcept -> std::same_as<float>;
      { block.load(c, count, to) } noexcept -> std::same_as<void>;
    };

/// A row of blocks, one behind the other.
template <row_block Block>
struct block_row {
  const Block* data = nullptr;

  CASCADA_INLINE constexpr float operator[](index_t c) const noexcept {
    return data[c / Block::elements][c % Block::elements];
  }
  CASCADA_INLINE constexpr void load(index_t c, index_t count, float* to) const noexcept {
    while (count > 0) {
      const index_t within = c % Block::elements, left = Block::elements - within, some = count < left ? count : left;
      data[c / Block::elements].load(within, some, to);
      to += some;
      c += some;
      count -= some;
    }
  }
  CASCADA_INLINE constexpr const void* address(index_t c) const noexcept { return data + c / Block::elements; }
};

}  // namespace cascada::inline CASCADA_ABI
