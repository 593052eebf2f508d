#pragma once
// Clusters with the memory behind them.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/base/buffer.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Clusters with the memory behind them.
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

}  // namespace cascada::inline CASCADA_ABI::kernel
