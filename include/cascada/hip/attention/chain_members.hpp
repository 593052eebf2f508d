#pragma once
// From the anchor of every key to its chain's members, side by side, and to leaves of successive ones.

#include <cstdint>

#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/base/running_sums.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// How many members each chain has.
struct count_chains {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  chain_memory   chains;
  index_t        tokens, kv_heads;

  index_t grid() const { return ((tokens - 1) / threads + 1) * kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % kv_heads, place = gpu.block() / kv_heads * threads + gpu.thread();
    if (layer.of_head(head).failed() || place >= tokens) return;
    const chain_memory own = chains.of(head, tokens);
    gpu.atomic_add(own.sizes + own.nearest[place].place, index_t{1});
  }
};

/// Where members of chains begin: a running sum of their sizes. One block a KV head.
struct chain_offsets {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  using sums   = running_sums<threads>;
  using shared = sums::shared;

  selection_sets layer;
  chain_memory   chains;
  index_t        tokens, kv_heads;

  index_t grid() const { return kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (layer.of_head(gpu.block()).failed()) return;
    const chain_memory own = chains.of(gpu.block(), tokens);
    sums::add(
        gpu, gpu.template shared<shared>(), tokens, [&](index_t place) { return own.sizes[place]; },
        [&](index_t place, index_t before) { own.offsets[place] = before; });
  }
};

/// Members of each chain, and which of them begin leaves: every `size`-th. One wave looks through its cluster.
struct order_chains {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  cluster_memory clusters;
  chain_memory   chains;
  leaf_memory    leaves;
  index_t        tokens, kv_heads, sinks, size;  // of a leaf: tokens at most

  index_t grid() const { return tokens * kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % kv_heads, first = gpu.block() / kv_heads;
    if (layer.of_head(head).failed()) return;
    const chain_memory own = chains.of(head, tokens);
    const index_t      all = gpu.uniform(own.sizes[first]);
    if (all == 0) return;
    leaf_range* const    formed  = leaves.formed + std::int64_t{head} * tokens;
    const index_t* const members = clusters.of_head(head, tokens).members;
    const index_t        begin = gpu.uniform(own.offsets[first]), end = gpu.uniform(own.ends[first]);
    index_t              found = 0;
    for (index_t base = first; found < all && base < end; base += threads) {
      const index_t       place   = base + gpu.lane();
      const bool          belongs = place < end && own.nearest[place].place == first;
      const std::uint64_t votes   = gpu.ballot(belongs);
      if (belongs) {
        const index_t to = begin + found + voters_below(gpu, votes), token = members[place];
        own.members[to] = token;  // a sink is a chain of its own
        formed[token]   = leaf_range::at(to, token < sinks ? begin + 1 : begin, begin + all, size);
      }
      found += voters(votes);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
