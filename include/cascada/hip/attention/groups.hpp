#pragma once
// Grouped queries: the tokens of a chunk that share a representative ask the far field once.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// The groups of all chunks.
struct group_memory {
  index_t* asker;  // [T]: the first token of each token's group, which asks for it
  index_t* asks;   // [T]: those of chunk c, ascending, from c chunk on
  index_t* count;  // [chunks]
};

/// Who asks for whom: one wave walks through the members of a cluster.
struct chunk_groups {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  cluster_memory  clusters;
  group_memory    groups;
  index_t         tokens, chunk;

  index_t grid() const { return tokens; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.block() >= *layer.count) return;
    const index_t begin = gpu.uniform(clusters.offsets[gpu.block()]);
    const index_t end   = gpu.uniform(clusters.offsets[gpu.block() + 1]);
    index_t       asker = 0;  // of the last token so far
    for (index_t base = begin; base < end; base += gfx942::wave) {
      const index_t       place      = base + gpu.lane();
      const index_t       token      = clusters.members[place < end ? place : end - 1];
      const index_t       before     = clusters.members[place > begin && place < end ? place - 1 : begin];
      const bool          begins     = place < end && (place == begin || before / chunk != token / chunk);
      const std::uint64_t first_ones = gpu.ballot(begins), below = first_ones & ((std::uint64_t{2} << gpu.lane()) - 1);
      if (place < end) groups.asker[token] = below != 0 ? clusters.members[base + 63 - __builtin_clzll(below)] : asker;
      if (first_ones != 0) asker = clusters.members[base + 63 - __builtin_clzll(first_ones)];
    }
  }
};

/// The askers of one chunk, in order, by one wave. For chunks from that of token `first` on.
struct list_askers {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  group_memory    groups;
  index_t         tokens, chunk, first;

  index_t grid() const { return (tokens - 1) / chunk + 1 - first / chunk; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t number = first / chunk + gpu.block(), begin = number * chunk;
    const index_t end    = tokens - begin < chunk ? tokens : begin + chunk;
    index_t       listed = 0;
    if (!layer.failed())
      for (index_t base = begin; base < end; base += gfx942::wave) {
        const index_t token = base + gpu.lane();
        listed += append(gpu, token < end && groups.asker[token] == token, token, groups.asks + begin + listed);
      }
    if (gpu.lane() == 0) groups.count[number] = listed;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
