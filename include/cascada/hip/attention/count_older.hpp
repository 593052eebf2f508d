#pragma once
// Weighted r x r, causal: how many members of each cluster are not later than the representative whose query it is.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/operands.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Counts for the representatives at places [first, last) of each R, one block each: place i sees those up to i.
struct count_older {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  selection_sets layer;
  cluster_memory clusters;
  pair_counts    counts;
  index_t        first, last;
  float          unscale;  // 1 / the scale of the logits

  index_t grid() const { return (last - first) * layer.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t         set = gpu.block() % layer.sets, number = gpu.block() / layer.sets, query = first + number;
    const selection_layer of = layer.of(set);
    if (query >= *of.count) return;
    const cluster_memory own   = clusters.of_set(set, of.length);
    const index_t        token = of.indices[query];
    float* const         row   = counts.row(counts.number(set, number));
    for (index_t j = gpu.thread(); j <= query; j += threads) {
      const index_t begin = own.offsets[j], end = own.offsets[j + 1];
      const index_t older = own.place_from(begin, end, token + 1) - begin;
      row[j]              = gpu.log2(static_cast<float>(older)) * unscale;
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
