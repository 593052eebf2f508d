#pragma once
// Weighted r x r, causal: how many members of each cluster are not later than the representative whose query it is.

#include <cmath>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// bias [tokens, stride]: log2 of the members of clusters `first` .. that are not later than each of the
/// representatives `query` .., whose queries these are. A cluster that begins later has none yet; causality hides it,
/// whatever its bias.
template <cpu_backend B>
void count_older(const clusters& lists, index_t query, index_t tokens, index_t first, index_t count, float* bias,
                 std::int64_t stride) noexcept {
  for (index_t j = 0; j < count; ++j) {
    const index_t begin = lists.begin(first + j), end = lists.end(first + j);
    index_t       later = lists.first_from(first + j, lists.representative(query));
    for (index_t i = 0; i < tokens; ++i) {
      while (later < end && lists.members.data()[later] <= lists.representative(query + i)) ++later;
      bias[i * stride + j] = later > begin ? std::log2(static_cast<float>(later - begin)) : 0.0f;
    }
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
