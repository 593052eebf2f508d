#pragma once
// Rows that are computed: floats that lie in memory as something smaller. Two concepts, and ggml's Q8_0.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "cascada/config.hpp"
#include "cascada/scalar.hpp"

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

/// Q8_0, as ggml lays it out: element c is scale times values[c], a product that no rounding changes. 34 bytes on any
/// even address. A scale of NaN makes every element NaN, an infinite one makes infinities, and NaN of zeros.
struct q8_0_block {
  static constexpr index_t elements = 32;

  float16     scale            = {};
  std::int8_t values[elements] = {};

  CASCADA_INLINE constexpr float operator[](index_t c) const noexcept {
    return to_float(scale) * static_cast<float>(values[c]);
  }
  CASCADA_INLINE constexpr void load(index_t c, index_t count, float* to) const noexcept {
    const float factor = to_float(scale);
    for (index_t i = 0; i < count; ++i) to[i] = factor * static_cast<float>(values[c + i]);
  }

  /// 32 floats, rounded as ggml does: the largest in size is 127 times the scale, ties go away from zero. Zeros where
  /// the scale would be too small for a float16; NaN where it would be too large, or a float is not finite.
  CASCADA_INLINE static q8_0_block of(const float* from) noexcept {
    q8_0_block    block;
    std::uint32_t most = 0;  // by bits, whatever -ffast-math assumes
    for (index_t i = 0; i < elements; ++i) {
      const auto size = std::bit_cast<std::uint32_t>(from[i]) & 0x7fff'ffffu;
      most            = size > most ? size : most;
    }
    const bool  finite = most < 0x7f80'0000u;
    const float unit   = finite ? std::bit_cast<float>(most) / 127.0f : 0.0f;
    block.scale        = from_float<float16>(unit);
    if (!finite || block.scale.bits == 0x7c00u) return {float16{0x7e00u}, {}};
    if (block.scale.bits == 0) return {};
    for (index_t i = 0; i < elements; ++i) block.values[i] = static_cast<std::int8_t>(std::round(from[i] * (1 / unit)));
    return block;
  }

  friend bool operator==(const q8_0_block&, const q8_0_block&) = default;
};
static_assert(sizeof(q8_0_block) == 34 && alignof(q8_0_block) == 2 && row_block<q8_0_block>);

}  // namespace cascada::inline CASCADA_ABI
