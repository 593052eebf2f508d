#pragma once
// A selection's end: counts and the report; or, where the step has failed, the old state once more.

#include <cstdint>

#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/hip/select/result.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Counts and the report. One block.
template <matrix_scalar Scalar>
struct selection_count {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 2;

  selection_call<Scalar> call;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t known = call.memory.known[call.stretches()].representatives;
    if (known < 0) {
      keep_old(gpu);
      return;
    }
    selection_counters sums;
    const bool         inherits = call.before.rep && !has_failed(call.before.count);
    for (index_t i = gpu.thread(); i < call.tokens(); i += threads) {
      gpu.atomic_add(call.now.counts + call.memory.prefix[call.now.rep[i]].representatives, index_t{1});
      selection_result<selection_call<Scalar>>{call}.count(i, inherits, sums);
    }
    call.memory.counters->add(gpu, sums);
    if (gpu.thread() != 0) return;
    *call.now.count                       = known;
    call.memory.counters->representatives = known;
    call.memory.counters->former          = inherits ? *call.before.count : -1;
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep_old(Gpu& gpu) const {
    const layer_memory& before = call.before;
    const index_t       count  = before.rep ? *before.count : -1;
    for (index_t i = gpu.thread(); i < call.tokens(); i += threads) call.now.rep[i] = call.old_rep(i);
    for (index_t k = gpu.thread(); k < count; k += threads)
      call.now.indices[k] = before.indices[k], call.now.counts[k] = before.counts[k];
    if (gpu.thread() != 0) return;
    *call.now.count = count;
    call.memory.counters->fail();
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
