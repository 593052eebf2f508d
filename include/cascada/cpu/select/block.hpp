#pragma once
// A block of a stretch: tokens that may become representatives, and what their Gram matrix says.

#include <cstdint>

#include "cascada/cpu/select/stretch.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

using namespace gram;

/// Tokens of a block: as many as have a Gram matrix.
inline constexpr index_t block_tokens = batch_tokens;

/// Up to block_tokens tokens, each with a line of their Gram matrix.
template <cpu_backend B>
struct selection_block {
  float* const  products;                        // [block_tokens, gram_stride], where they are canonical
  index_t       count                     = 0;   // tokens
  index_t       line[stretch_tokens]      = {};  // by number in the stretch; -1: none
  index_t       local[block_tokens]       = {};  // number in the stretch, by line
  std::uint64_t possible[block_tokens]    = {};  // earlier lines that may cover the token of a line, as bits
  std::uint64_t sure[block_tokens]        = {};  // those of them that surely do
  std::uint64_t joined                    = 0;   // lines of the tokens that joined R, as bits
  index_t       count_joined              = 0;   // how many these are
  index_t       joined_line[block_tokens] = {};  // their lines, in order
  index_t       position[block_tokens]    = {};  // in R, by line

  explicit selection_block(float* room) noexcept : products(room) {}

  CASCADA_INLINE float* row(index_t of_line) noexcept { return products + of_line * gram_stride<B>; }

  /// The token of number `of_token` in the stretch gets the next line.
  CASCADA_INLINE void take(index_t of_token) noexcept {
    local[count]   = of_token;
    line[of_token] = count++;
  }

  /// The token of a line has joined R.
  CASCADA_INLINE void join(index_t of_line, index_t in_set) noexcept {
    joined |= std::uint64_t{1} << of_line;
    position[of_line]           = in_set;
    joined_line[count_joined++] = of_line;
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
