#pragma once
// Kernels that are given the selection of each KV head: as many launches as there are heads for.

#include <algorithm>
#include <cstddef>
#include <span>

#include "cascada/hip/attention/selection_sets.hpp"
#include "cascada/hip/base/launches.hpp"
#include "cascada/hip/base/selection_layer.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Launches `some` for heads_of_launch KV heads at a time, each with what source_of(selection) says of it.
template <class B, class Kernel, class Source>
void launch_by_heads(launches<B>& launch, Kernel some, std::span<const selection_layer> all, const Source& source_of) {
  const auto sets = static_cast<index_t>(all.size());
  for (some.first = 0; some.first < sets; some.first += heads_of_launch) {
    some.heads = std::min(heads_of_launch, sets - some.first);
    for (index_t i = 0; i < some.heads; ++i) some.from[i] = source_of(all[static_cast<std::size_t>(some.first + i)]);
    launch(some);
  }
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
