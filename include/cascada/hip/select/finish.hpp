#pragma once
// A selection's end: counts and the report; or, where the step has failed, the old state once more.

#include <cstdint>

#include "cascada/hip/select/arguments.hpp"
#include "cascada/selection_counts.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Counts and the report. One block.
template <matrix_scalar Scalar>
struct selection_finish {
  using shared                     = no_shared;
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = 2;

  selection_arguments<Scalar> args;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t known = args.memory.known[args.blocks()].representatives;
    if (known < 0 || args.memory.counters->answer != status::ok) {
      keep_old(gpu);
      return;
    }
    selection_counters sums;
    const bool         inherits = args.before.rep && *args.before.count >= 0;
    for (index_t i = gpu.thread(); i < args.tokens(); i += threads) {
      gpu.atomic_add(args.now.counts + args.memory.before[args.now.rep[i]].representatives, index_t{1});
      if (inherits)
        count_inherited(i, sums);
      else
        sums.gram.selection += scan_of(i).representatives;
    }
    add(gpu, sums);
    if (gpu.thread() != 0) return;
    *args.now.count                       = known;
    args.memory.counters->representatives = known;
    args.memory.counters->former          = inherits ? *args.before.count : -1;
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE detail::scan_length scan_of(index_t i) const {
    const selection_memory& memory = args.memory;
    const index_t           rep    = args.now.rep[i];
    if (rep == i || args.assign == assignment::nearest)
      return {memory.before[i].representatives, memory.before[i].added};
    return {memory.before[rep].representatives + 1, memory.before[rep].added + (args.old_rep(rep) != rep)};
  }

  CASCADA_DEVICE CASCADA_INLINE void count_inherited(index_t i, selection_counters& sums) const {
    const index_t old = args.old_rep(i), rep = args.now.rep[i];
    const auto    scan = scan_of(i);
    if (old == i) return detail::count_former(rep == i, scan, sums);
    const index_t candidate = args.now.rep[old];
    detail::count_inheriting({.inherits      = rep == candidate,
                              .is_addition   = rep == i,
                              .new_candidate = args.old_rep(candidate) != candidate,
                              .met_candidate = args.memory.before[candidate].representatives < scan.representatives},
                             scan, args.memory.cross != nullptr, sums);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void add(Gpu& gpu, const selection_counters& sums) const {
    selection_counters& total = *args.memory.counters;
    gpu.atomic_add(&total.gram.selection, sums.gram.selection);
    gpu.atomic_add(&total.gram.inherited, sums.gram.inherited);
    gpu.atomic_add(&total.gram.validation, sums.gram.validation);
    gpu.atomic_add(&total.gram.orphans, sums.gram.orphans);
    gpu.atomic_add(&total.additions, sums.additions);
    gpu.atomic_add(&total.removals, sums.removals);
    gpu.atomic_add(&total.inherited, sums.inherited);
    gpu.atomic_add(&total.orphans, sums.orphans);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep_old(Gpu& gpu) const {
    const layer_memory& before = args.before;
    const index_t       count  = before.rep ? *before.count : -1;
    for (index_t i = gpu.thread(); i < args.tokens(); i += threads) args.now.rep[i] = args.old_rep(i);
    for (index_t k = gpu.thread(); k < count; k += threads)
      args.now.indices[k] = before.indices[k], args.now.counts[k] = before.counts[k];
    if (gpu.thread() != 0) return;
    *args.now.count = count;
    // Too many representatives leave no other trace.
    if (args.memory.counters->answer == status::ok) args.memory.counters->answer = status::too_many_representatives;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
