#pragma once
// Representatives' answers, copied to the tokens that they stand for.

#include "cascada/hip/base/device.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Every token copies its representative's output.
template <row_scalar Out>
struct copy_results {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  heads_view<Out> out;

  index_t grid() const { return out.tokens; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (layer.failed()) return;
    const index_t token = gpu.block(), rep = layer.rep[token];
    if (rep == token) return;
    for (index_t i = gpu.thread(); i < out.heads * out.dim; i += threads)
      out.row(token, i / out.dim)[i % out.dim] = out.row(rep, i / out.dim)[i % out.dim];
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
