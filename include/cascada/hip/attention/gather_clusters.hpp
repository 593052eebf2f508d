#pragma once
// The KV heads' own selections of a sequence that grows, side by side: of the tokens that a call lets join, what they
// join. Earlier ones are there.

#include <cstdint>

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/selection_layer.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Copies what a call needs of selections of some KV heads, wherever they lie, before the call begins. A failed one has
/// its count alone.
struct gather_clusters {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  /// Of one KV head.
  struct source {
    const index_t *rep, *count;
  };

  grown_tokens     of;
  grown_selections to;
  std::int64_t     stride;         // from KV head to KV head
  index_t          queries, room;  // as in begin_tokens
  index_t          chunk, window;
  index_t          joining;               // tokens that may join
  index_t          first = 0, heads = 0;  // KV heads [first, first + heads)
  source           from[heads_of_launch] = {};

  index_t grid() const { return ((joining - 1) / threads + 1) * heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t number = gpu.block() % heads, ahead = gpu.block() / heads * threads + gpu.thread();
    const source  own   = from[number];
    const index_t count = *own.count, begun = of.state->tokens, token = of.state->joined + ahead;
    if (ahead == 0) to.count[first + number] = count;
    if (count < 0 || queries > room - begun) return;
    if (token >= of.state->joins_until(begun + queries, chunk, window)) return;
    to.rep[(first + number) * stride + token] = own.rep[token];
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
