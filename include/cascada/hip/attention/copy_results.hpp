#pragma once
// Representatives' answers, copied to the tokens that they stand for.

#include "cascada/hip/attention/result_rows.hpp"
#include "cascada/hip/attention/row_sums.hpp"
#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Every token copies its representative's output, and log-sum-exps.
template <matrix_scalar Scalar>
struct copy_results {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  selection_sets      layer;
  result_rows<Scalar> out;
  row_sums            log_sums = {};

  index_t grid() const { return out.tokens * layer.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t         set = gpu.block() % layer.sets, token = gpu.block() / layer.sets;
    const selection_layer of = layer.of(set);
    if (of.failed()) return;
    const index_t rep = of.rep[token], heads = out.heads / layer.sets, first = set * heads;
    if (rep == token) return;
    if (log_sums.data)
      for (index_t i = gpu.thread(); i < heads; i += threads)
        log_sums.at(token, first + i) = log_sums.at(rep, first + i);
    out.as_stored([&](const auto& rows) {
      for (index_t i = gpu.thread(); i < heads * out.dim; i += threads)
        rows.row(token, first + i / out.dim)[i % out.dim] = rows.row(rep, first + i / out.dim)[i % out.dim];
    });
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
