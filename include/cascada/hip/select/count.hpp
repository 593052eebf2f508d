#pragma once
// A selection's end: counts and the report; or, where the step has failed, the old state once more.

#include <cstdint>

#include "cascada/hip/select/call.hpp"
#include "cascada/selection_counts.hpp"

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
    if (known < 0 || call.memory.counters->answer != status::ok) {
      keep_old(gpu);
      return;
    }
    selection_counters sums;
    const bool         inherits = call.before.rep && *call.before.count >= 0;
    for (index_t i = gpu.thread(); i < call.tokens(); i += threads) {
      gpu.atomic_add(call.now.counts + call.memory.before[call.now.rep[i]].representatives, index_t{1});
      if (inherits)
        detail::count_token(result{call}, i, call.assign, call.memory.cross != nullptr, sums);
      else
        sums.gram.selection += detail::scan_of(result{call}, i, call.assign).representatives;
    }
    call.memory.counters->add(gpu, sums);
    if (gpu.thread() != 0) return;
    *call.now.count                       = known;
    call.memory.counters->representatives = known;
    call.memory.counters->former          = inherits ? *call.before.count : -1;
  }

 private:
  /// The step's, as scan_of and count_token ask for it.
  struct result {
    const selection_call<Scalar>& call;

    CASCADA_DEVICE CASCADA_INLINE index_t rep(index_t i) const { return call.now.rep[i]; }
    CASCADA_DEVICE CASCADA_INLINE index_t old_rep(index_t i) const { return call.old_rep(i); }
    CASCADA_DEVICE CASCADA_INLINE index_t position(index_t j) const { return call.memory.before[j].representatives; }
    CASCADA_DEVICE CASCADA_INLINE detail::scan_length before(index_t i) const {
      return {call.memory.before[i].representatives, call.memory.before[i].added};
    }
    CASCADA_DEVICE CASCADA_INLINE detail::scan_length up_to(index_t j) const {
      const detail::scan_length earlier = before(j);
      return {earlier.representatives + 1, earlier.additions + (old_rep(j) != j)};
    }
  };

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep_old(Gpu& gpu) const {
    const layer_memory& before = call.before;
    const index_t       count  = before.rep ? *before.count : -1;
    for (index_t i = gpu.thread(); i < call.tokens(); i += threads) call.now.rep[i] = call.old_rep(i);
    for (index_t k = gpu.thread(); k < count; k += threads)
      call.now.indices[k] = before.indices[k], call.now.counts[k] = before.counts[k];
    if (gpu.thread() != 0) return;
    *call.now.count = count;
    // Too many representatives leave no other trace.
    if (call.memory.counters->answer == status::ok) call.memory.counters->answer = status::too_many_representatives;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
