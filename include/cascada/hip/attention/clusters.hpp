#pragma once
// Clusters on the device: members in token order.

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/hip/base/selection_layer.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Clusters of T tokens (cluster.hpp gives the shapes). Where each KV head has chains, their members instead.
struct cluster_memory {
  index_t* offsets;  // [r + 1]
  index_t* members;  // [T], or [sets, T]: chain by chain

  /// With the members of one set.
  CASCADA_DEVICE CASCADA_INLINE cluster_memory of_set(index_t set, index_t tokens) const {
    return {offsets, members + std::int64_t{set} * tokens};
  }

  /// The first of places [begin, end) of a cluster whose member is not before `token`.
  CASCADA_DEVICE CASCADA_INLINE index_t place_from(index_t begin, index_t end, index_t token) const {
    return detail::first_from(members, begin, end, token);
  }
};

/// Running sums of `count` sizes by a block of `Threads`, and shared memory: `put(i, sum)` hears of those before i, and
/// last of all.
template <index_t Threads>
struct running_sums {
  struct shared {
    std::uint32_t total[Threads / gfx942::wave];
  };

  template <class Gpu, class Size, class Put>
  CASCADA_DEVICE CASCADA_INLINE static void add(Gpu& gpu, shared& totals, index_t count, const Size& size_of,
                                                const Put& put) {
    std::uint32_t before = 0;
    for (index_t base = 0; base < count; base += Threads) {
      const index_t       j    = base + gpu.thread();
      const std::uint32_t size = j < count ? static_cast<std::uint32_t>(size_of(j)) : 0;
      std::uint32_t       sum  = size;
#pragma GCC unroll 6
      for (index_t step = 1; step < gfx942::wave; step *= 2) {
        const std::uint32_t lower = gpu.shuffle(sum, gpu.lane() < step ? gpu.lane() : gpu.lane() - step);
        if (gpu.lane() >= step) sum += lower;
      }
      if (gpu.lane() == gfx942::wave - 1) totals.total[gpu.wave()] = sum;
      gpu.barrier();
      std::uint32_t own = before + sum - size;
      for (index_t w = 0; w < Threads / gfx942::wave; ++w) {
        if (w < gpu.wave()) own += totals.total[w];
        before += totals.total[w];
      }
      if (j < count) put(j, static_cast<index_t>(own));
      gpu.barrier();
    }
    if (gpu.thread() == 0 && count >= 0) put(count, static_cast<index_t>(before));
  }
};

/// Offsets of the clusters: a running sum of their sizes. One block.
struct cluster_offsets {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  using sums   = running_sums<threads>;
  using shared = sums::shared;

  selection_layer layer;
  cluster_memory  memory;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    sums::add(
        gpu, gpu.template shared<shared>(), gpu.uniform(*layer.count), [&](index_t j) { return layer.counts[j]; },
        [&](index_t j, index_t before) { memory.offsets[j] = before; });
  }
};

/// Members of each cluster, by one wave.
struct cluster_members {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  cluster_memory  memory;
  index_t         tokens;

  index_t grid() const { return tokens; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.block() >= *layer.count) return;
    const index_t own = layer.indices[gpu.block()], end = gpu.uniform(memory.offsets[gpu.block() + 1]);
    index_t       next = gpu.uniform(memory.offsets[gpu.block()]);
    for (index_t base = gpu.uniform(own); next < end; base += gfx942::wave) {
      const index_t i = base + gpu.lane();
      next += append(gpu, i < tokens && layer.rep[i] == own, i, memory.members + next);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
