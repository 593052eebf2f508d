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

  index_t grid() const { return (room + threads - 1) / threads * leaves.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t token = gpu.block() / leaves.sets * threads + gpu.thread();
    if (tokens > of.state->tokens || token < sinks || token >= of.state->joined) return;
    const grown_leaves own = leaves.of(gpu.block() % leaves.sets, room);
    if constexpr (Stay) {
      if (token >= tokens || own.next[token] < tokens) return;
      own.next[token]            = 0;
      own.tail[own.chain[token]] = token;
    } else if (token >= tokens) {
      own.next[token] = 0, own.tail[own.chain[token]] = 0;
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
