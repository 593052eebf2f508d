#pragma once
// Leaves by token order.

#include <cstdint>

#include "cascada/hip/attention/leaves.hpp"

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
    for (index_t place = first + gpu.lane(); place < end; place += threads)
      to[own.members[place]] = leaf_range::at(place, begin, end, size);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
