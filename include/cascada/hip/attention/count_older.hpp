#pragma once
// Weighted r x r, causal: how many members of each cluster are not later than the representative that asks.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/operands.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Counts for the representatives at places [first, last) of R, one block each: place i sees those up to i.
struct count_older {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  cluster_memory  clusters;
  pair_counts     counts;
  index_t         first, last;
  float           unscale;  // 1 / the scale of the logits

  index_t grid() const { return last - first; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t asking = first + gpu.block();
    if (asking >= *layer.count) return;
    const index_t token = layer.indices[asking];
    float* const  row   = counts.row(gpu.block());
    for (index_t j = gpu.thread(); j <= asking; j += threads) {
      const index_t begin = clusters.offsets[j], end = clusters.offsets[j + 1];
      const index_t older = clusters.place_from(begin, end, token + 1) - begin;
      row[j]              = gpu.log2(static_cast<float>(older)) * unscale;
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
