#pragma once
// Clusters with the memory behind them, of a whole selection and of one that grows.

#include <algorithm>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/saved_state.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Those of a whole selection.
template <cpu_backend B>
class cluster_lists {
 public:
  void reserve(index_t tokens) {
    slots_.reserve(tokens);
    offsets_.reserve(std::int64_t{tokens} + 1);
    members_.reserve(tokens);
  }

  clusters list(const representatives& state) noexcept {
    return list_clusters(state, slots_.data(), offsets_.data(), members_.data());
  }

 private:
  buffer<index_t, B> slots_, offsets_, members_;
};

/// The clusters of a selection that grows, as far as leaves need them: the cluster of each token.
template <cpu_backend B>
struct growing_clusters {
  buffer<index_t, B> cluster_of;  // [tokens]
  index_t            tokens = 0, count = 0;

  /// Takes in tokens up to `end`. O(end - tokens).
  void extend(const representatives& selection, index_t end) noexcept {
    if (end <= tokens) return;
    count  = detail::number_clusters(selection, tokens, end, count, cluster_of.data());
    tokens = end;
  }

  /// Forgets the tokens from `end` on.
  void truncate(index_t end) noexcept {
    if (end >= tokens) return;
    tokens = end;
    count  = 0;
    for (index_t t = 0; t < end; ++t) count = std::max(count, cluster_of[t] + 1);
  }

  /// Takes in the saved clusters of `end` tokens. False where they are none: clusters are numbered by their first
  /// tokens.
  bool take(state_reader<B>& from, index_t end) noexcept {
    if (!from.take(cluster_of.data(), end)) return false;
    for (; tokens < end; ++tokens) {
      if (cluster_of[tokens] < 0 || cluster_of[tokens] > count) return false;
      count += cluster_of[tokens] == count;
    }
    return true;
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
