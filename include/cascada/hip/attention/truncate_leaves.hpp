#pragma once
// A sequence with leaves forgets its last tokens: chains end before them. Then truncate_tokens counts the rest.

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_tokens.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// What the tokens that go have. `Stay`: then their chains end with the last members that stay.
template <bool Stay>
struct truncate_leaves {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens of;
  grown_leaves leaves;
  index_t      tokens;  // that stay
  index_t      sinks, room;

  index_t grid() const { return (room + threads - 1) / threads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t token = gpu.block() * threads + gpu.thread();
    if (tokens > of.state->tokens || token < sinks || token >= of.state->joined) return;
    if constexpr (Stay) {
      if (token >= tokens || leaves.next[token] < tokens) return;
      leaves.next[token]               = 0;
      leaves.tail[leaves.chain[token]] = token;
    } else if (token >= tokens) {
      leaves.next[token] = 0, leaves.tail[leaves.chain[token]] = 0;
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
