#pragma once
// Clusters on the device: members in token order.

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/running_sums.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Clusters of T tokens (cluster.hpp gives the shapes), in sets: those of all KV heads, or each KV head's own. Where KV
/// heads have chains, their members instead.
struct cluster_memory {
  index_t* offsets;   // [sets, T + 1], r + 1 in use; null: chains
  index_t* members;   // [sets, T]; those of chains chain by chain
  index_t  sets = 1;  // of clusters

  /// One set, and that of a KV head.
  CASCADA_DEVICE CASCADA_INLINE cluster_memory of_set(index_t set, index_t tokens) const {
    return {offsets + std::int64_t{set} * (tokens + 1), members + std::int64_t{set} * tokens};
  }
  CASCADA_DEVICE CASCADA_INLINE cluster_memory of_head(index_t kv_head, index_t tokens) const {
    return of_set(set_of_head(sets, kv_head), tokens);
  }

  /// One set without offsets.
  CASCADA_DEVICE CASCADA_INLINE cluster_memory members_of_set(index_t set, index_t tokens) const {
    return {nullptr, members + std::int64_t{set} * tokens};
  }

  /// The first of places [begin, end) of a cluster whose member is not before `token`.
  CASCADA_DEVICE CASCADA_INLINE index_t place_from(index_t begin, index_t end, index_t token) const {
    return detail::first_from(members, begin, end, token);
  }
};

/// Offsets of the clusters: a running sum of their sizes. One block a set.
struct cluster_offsets {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  using sums   = running_sums<threads>;
  using shared = sums::shared;

  selection_sets layer;
  cluster_memory clusters;

  index_t grid() const { return layer.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const selection_layer of = layer.of(gpu.block());
    index_t* const        to = clusters.of_set(gpu.block(), of.length).offsets;
    sums::add(
        gpu, gpu.template shared<shared>(), gpu.uniform(*of.count), [&](index_t j) { return of.counts[j]; },
        [&](index_t j, index_t before) { to[j] = before; });
  }
};

/// Members of each cluster, by one wave.
struct cluster_members {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  cluster_memory clusters;
  index_t        tokens;

  index_t grid() const { return tokens * layer.sets; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t         set = gpu.block() % layer.sets, number = gpu.block() / layer.sets;
    const selection_layer of = layer.of(set);
    if (number >= *of.count) return;
    const cluster_memory to  = clusters.of_set(set, tokens);
    const index_t        own = of.indices[number], end = gpu.uniform(to.offsets[number + 1]);
    index_t              next = gpu.uniform(to.offsets[number]);
    for (index_t base = gpu.uniform(own); next < end; base += gfx942::wave) {
      const index_t i = base + gpu.lane();
      next += append(gpu, i < tokens && of.rep[i] == own, i, to.members + next);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
