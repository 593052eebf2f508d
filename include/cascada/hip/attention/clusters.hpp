#pragma once
// Clusters on the device: members in token order.

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/hip/base/running_sums.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/hip/base/votes.hpp"

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

/// Offsets of the clusters: a running sum of their sizes. One block.
struct cluster_offsets {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  using sums   = running_sums<threads>;
  using shared = sums::shared;

  selection_layer layer;
  cluster_memory  clusters;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    sums::add(
        gpu, gpu.template shared<shared>(), gpu.uniform(*layer.count), [&](index_t j) { return layer.counts[j]; },
        [&](index_t j, index_t before) { clusters.offsets[j] = before; });
  }
};

/// Members of each cluster, by one wave.
struct cluster_members {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  cluster_memory  clusters;
  index_t         tokens;

  index_t grid() const { return tokens; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.block() >= *layer.count) return;
    const index_t own = layer.indices[gpu.block()], end = gpu.uniform(clusters.offsets[gpu.block() + 1]);
    index_t       next = gpu.uniform(clusters.offsets[gpu.block()]);
    for (index_t base = gpu.uniform(own); next < end; base += gfx942::wave) {
      const index_t i = base + gpu.lane();
      next += append(gpu, i < tokens && layer.rep[i] == own, i, clusters.members + next);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
