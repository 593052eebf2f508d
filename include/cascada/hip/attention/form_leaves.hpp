#pragma once
// Leaves by token order, and the list of leaves, whatever they are formed by.

#include <cstdint>

#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Which tokens of a cluster begin leaves: every `size`-th, from the first that is no sink on. One wave.
struct form_leaves {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  cluster_memory clusters;
  leaf_memory    leaves;
  index_t        tokens, sinks, size;  // of a leaf: tokens at most

  index_t grid() const { return tokens * layer.sets; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t set = gpu.block() % layer.sets, number = gpu.block() / layer.sets;
    if (number >= *layer.of(set).count) return;
    const cluster_memory own   = clusters.of_set(set, tokens);
    leaf_range* const    to    = leaves.formed + std::int64_t{set} * tokens;
    const index_t        first = own.offsets[number], end = own.offsets[number + 1];
    const index_t        begin = own.place_from(first, end, sinks);
    for (index_t place = first + gpu.lane(); place < end; place += threads) {
      const bool begins      = place >= begin && (place - begin) % size == 0;
      to[own.members[place]] = {place, !begins ? place : end - place < size ? end : place + size};
    }
  }
};

/// The leaves in the order of their first tokens. Each block counts those of all tokens before its own.
struct list_leaves {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  struct shared {
    std::uint32_t        before[threads / gfx942::wave];
    block_votes<threads> own;
  };

  selection_sets layer;
  leaf_memory    leaves;
  index_t        tokens;

  index_t grid() const { return (tokens + threads - 1) / threads * leaves.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&                   lds   = gpu.template shared<shared>();
    const index_t           set   = gpu.block() % leaves.sets;
    const index_t           begin = gpu.block() / leaves.sets * threads, token = begin + gpu.thread();
    const leaf_range* const formed = leaves.formed + std::int64_t{set} * tokens;
    const bool              exist  = !layer.of_head(set).failed();
    std::uint32_t           before = 0;
#pragma GCC unroll 8
    for (index_t t = gpu.thread(); t < begin; t += threads) before += exist && begins(formed[t]);
    before                 = sum_of_wave(gpu, before);
    const leaf_range range = exist && token < tokens ? formed[token] : leaf_range{0, 0};
    lds.own.cast(gpu, begins(range));
    if (gpu.lane() == 0) lds.before[gpu.wave()] = before;
    gpu.barrier();
    before = 0;
    for (const std::uint32_t of_wave : lds.before) before += of_wave;
    const auto earlier = static_cast<index_t>(before), place = earlier + lds.own.before(gpu);
    if (begins(range)) leaves.ranges[std::int64_t{set} * tokens + place] = range;
    if (begin + threads >= tokens && gpu.thread() == 0) leaves.count[set] = earlier + lds.own.all();
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE static bool begins(const leaf_range& range) { return range.begin < range.end; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
