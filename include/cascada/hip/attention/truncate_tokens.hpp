#pragma once
// A sequence that grows forgets its last tokens: chains of leaves end before them, then the rest is counted.

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/status.hpp"

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

/// The sequence forgets its last tokens, and with them that a call has failed. A thread for each set of leaves.
struct truncate_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens of;
  grown_leaves leaves;
  grown_chains chains;
  index_t      tokens;  // that stay
  index_t      room;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (tokens > of.state->tokens) return;
    for (index_t set = gpu.thread(); set < leaves.sets; set += threads) {
      const grown_leaves own = leaves.of(set, room);
      *own.count             = detail::first_from(own.first, 0, *own.count, tokens);
    }
    for (index_t head = gpu.thread(); head < chains.sets; head += threads) {
      const grown_chains own = chains.of(head, room);
      *own.count             = detail::first_from(own.anchors, 0, *own.count, tokens);
    }
    if (gpu.thread() != 0) return;
    of.state->tokens = tokens;
    of.state->answer = status::ok;
    of.state->listed = 0;
    if (of.state->joined > tokens) of.state->joined = tokens;
    if (of.state->remembered > tokens) of.state->remembered = tokens;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
