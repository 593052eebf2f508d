#pragma once
// Grouped queries: the tokens of a chunk that share a representative read the far field once.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// The groups of all chunks, in sets: those of all KV heads, or each KV head's own.
struct group_memory {
  index_t* leader;   // [sets, T]: the first token of each token's group, whose query it has
  index_t* leaders;  // [sets, T]: those of chunk c, ascending, from c chunk on
  index_t* count;    // [sets, chunks]

  CASCADA_DEVICE CASCADA_INLINE group_memory of_set(index_t set, index_t tokens, index_t chunks) const {
    const std::int64_t from = std::int64_t{set} * tokens;
    return {leader + from, leaders + from, count + std::int64_t{set} * chunks};
  }
};

/// Who leads whom: one wave walks through the members of a cluster.
struct chunk_groups {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  cluster_memory clusters;
  group_memory   groups;
  index_t        tokens, chunk;

  index_t grid() const { return tokens * layer.sets; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t set = gpu.block() % layer.sets, number = gpu.block() / layer.sets;
    if (number >= *layer.of(set).count) return;
    const cluster_memory own     = clusters.of_set(set, tokens);
    index_t* const       leaders = groups.of_set(set, tokens, 0).leader;
    const index_t        begin   = gpu.uniform(own.offsets[number]);
    const index_t        end     = gpu.uniform(own.offsets[number + 1]);
    index_t              leader  = 0;  // of the last token so far
    for (index_t base = begin; base < end; base += gfx942::wave) {
      const index_t       place      = base + gpu.lane();
      const index_t       token      = own.members[place < end ? place : end - 1];
      const index_t       before     = own.members[place > begin && place < end ? place - 1 : begin];
      const bool          begins     = place < end && (place == begin || before / chunk != token / chunk);
      const std::uint64_t first_ones = gpu.ballot(begins), below = first_ones & ((std::uint64_t{2} << gpu.lane()) - 1);
      if (place < end) leaders[token] = below != 0 ? own.members[base + 63 - __builtin_clzll(below)] : leader;
      if (first_ones != 0) leader = own.members[base + 63 - __builtin_clzll(first_ones)];
    }
  }
};

/// The leaders of one chunk, in order, by one wave. For chunks from that of token `first` on.
struct list_leaders {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  group_memory   groups;
  index_t        tokens, chunk, first;

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t chunks() const { return (tokens - 1) / chunk + 1; }
  index_t                                    grid() const { return (chunks() - first / chunk) * layer.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t      set    = gpu.block() % layer.sets;
    const group_memory own    = groups.of_set(set, tokens, chunks());
    const index_t      number = first / chunk + gpu.block() / layer.sets, begin = number * chunk;
    const index_t      end    = tokens - begin < chunk ? tokens : begin + chunk;
    index_t            listed = 0;
    if (!layer.of(set).failed())
      for (index_t base = begin; base < end; base += gfx942::wave) {
        const index_t token = base + gpu.lane();
        listed += append(gpu, token < end && own.leader[token] == token, token, own.leaders + begin + listed);
      }
    if (gpu.lane() == 0) own.count[number] = listed;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
