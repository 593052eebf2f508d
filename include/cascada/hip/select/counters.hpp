#pragma once
// What a step of selection counts on the device, and the report that follows from it.

#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/selection_counts.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// What a step did, in device memory; cleared before each.
struct selection_counters {
  gram_operations gram            = {};
  std::int64_t    pairs_evaluated = 0;
  index_t         additions = 0, removals = 0, inherited = 0, orphans = 0;
  index_t         representatives = 0;
  index_t         former          = 0;  // representatives in the layer before; -1: a full selection
  status::code    answer          = status::ok;

  /// Adds what one thread has counted with detail::count_token.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void add(Gpu& gpu, const selection_counters& sums) {
    gpu.atomic_add(&gram.selection, sums.gram.selection);
    gpu.atomic_add(&gram.inherited, sums.gram.inherited);
    gpu.atomic_add(&gram.validation, sums.gram.validation);
    gpu.atomic_add(&gram.orphans, sums.gram.orphans);
    gpu.atomic_add(&additions, sums.additions);
    gpu.atomic_add(&removals, sums.removals);
    gpu.atomic_add(&inherited, sums.inherited);
    gpu.atomic_add(&orphans, sums.orphans);
  }

  /// The answer of a step that has failed. Too many representatives leave no other trace.
  CASCADA_DEVICE CASCADA_INLINE status::code fail() {
    if (answer == status::ok) answer = status::too_many_representatives;
    return answer;
  }

  /// Of a step on T tokens. `cross`: in paper mode.
  selection_report report(index_t tokens, bool cross) const {
    selection_report all = {.tokens          = tokens,
                            .representatives = representatives,
                            .gram            = gram,
                            .pairs_evaluated = pairs_evaluated,
                            .additions       = additions,
                            .removals        = removals,
                            .inherited       = inherited,
                            .orphans         = orphans};
    if (former >= 0) detail::count_step(former, cross, all);
    return all;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
