#pragma once
// The selections of a sequence: one that all KV heads share, or each KV head's own, which lie side by side.

#include <cstdint>

#include "cascada/hip/base/device.hpp"
#include "cascada/hip/base/selection_layer.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Of a KV head, where all have one set, of leaves or of representatives, or each its own.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t set_of_head(index_t sets, index_t kv_head) {
  return sets > 1 ? kv_head : 0;
}

/// Selections of T tokens: indices, rep and counts [sets, T], count [sets].
struct selection_sets {
  selection_layer first;
  index_t         sets = 1;

  CASCADA_HOST_DEVICE CASCADA_INLINE selection_sets(const selection_layer& one, index_t count = 1)
      : first(one), sets(count) {}

  /// Of a set, and of a KV head.
  CASCADA_DEVICE CASCADA_INLINE selection_layer of(index_t set) const {
    const std::int64_t from = std::int64_t{set} * first.length;
    return {first.indices + from, first.rep + from, first.counts + from, first.count + set, first.length};
  }
  CASCADA_DEVICE CASCADA_INLINE selection_layer of_head(index_t kv_head) const {
    return of(set_of_head(sets, kv_head));
  }
};

/// Where the selections of all KV heads lie side by side.
struct gathered_selections {
  index_t* indices = nullptr;  // [sets, T]
  index_t* rep     = nullptr;
  index_t* counts  = nullptr;
  index_t* count   = nullptr;  // [sets]

  selection_sets view(index_t tokens, index_t sets) const { return {{indices, rep, counts, count, tokens}, sets}; }
};

/// KV heads whose selections a launch is told: it is given 4 KiB at most.
inline constexpr index_t heads_of_launch = 64;

/// Copies selections of some KV heads, wherever they lie. 12 bytes a token and KV head: less than a hundredth of a key
/// and a value. A failed one has its count alone.
struct gather_selections {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  /// Of one KV head.
  struct source {
    const index_t *indices, *rep, *counts, *count;
  };

  gathered_selections to;
  index_t             tokens;
  index_t             first = 0, heads = 0;  // KV heads [first, first + heads)
  source              from[heads_of_launch] = {};

  index_t grid() const { return ((tokens - 1) / threads + 1) * heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t      number = gpu.block() % heads, token = gpu.block() / heads * threads + gpu.thread();
    const source       own   = from[number];
    const index_t      count = *own.count;
    const std::int64_t place = std::int64_t{first + number} * tokens + token;
    if (token == 0) to.count[first + number] = count;
    if (count < 0 || token >= tokens) return;
    to.rep[place] = own.rep[token];
    if (token < count) to.indices[place] = own.indices[token], to.counts[place] = own.counts[token];
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
