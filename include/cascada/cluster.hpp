#pragma once
// Clusters C_j = {i : rep(i) = j}: which tokens a representative stands for, in token order.

#include <span>

#include "cascada/ascending.hpp"
#include "cascada/config.hpp"
#include "cascada/representatives.hpp"

namespace cascada::inline CASCADA_ABI {

/// The clusters of T tokens, numbered by the position of their representative in R; memory belongs to someone else.
///
/// cluster_of [T]      cluster of each token
/// offsets [r + 1]     members of cluster j are members[offsets[j]] .. members[offsets[j + 1] - 1]
/// members [T]         tokens, ascending within a cluster; the first is the representative
struct clusters {
  std::span<const index_t> cluster_of;
  std::span<const index_t> offsets;
  std::span<const index_t> members;

  CASCADA_INLINE constexpr index_t count() const noexcept { return static_cast<index_t>(offsets.size()) - 1; }
  CASCADA_INLINE constexpr index_t begin(index_t cluster) const noexcept { return offsets.data()[cluster]; }
  CASCADA_INLINE constexpr index_t end(index_t cluster) const noexcept { return offsets.data()[cluster + 1]; }

  CASCADA_INLINE constexpr index_t representative(index_t cluster) const noexcept {
    return members.data()[begin(cluster)];
  }

  /// The place in `members` of a cluster's first member from `token` on; end(cluster) if there is none. O(log n).
  CASCADA_INLINE constexpr index_t first_from(index_t cluster, index_t token) const noexcept {
    return detail::first_from(members.data(), begin(cluster), end(cluster), token);
  }
};

namespace detail {

/// The clusters of tokens [begin, end) behind `count` clusters, numbered by their first tokens. Returns the clusters
/// now.
CASCADA_INLINE constexpr index_t number_clusters(const representatives& state, index_t begin, index_t end,
                                                 index_t count, index_t* cluster_of) noexcept {
  for (index_t i = begin; i < end; ++i) {
    const index_t rep = state.rep.data()[i];
    cluster_of[i]     = rep == i ? count++ : cluster_of[rep];
  }
  return count;
}

}  // namespace detail

/// Lists the members of each cluster of a legal state. Room: cluster_of [T], offsets [r + 1], members [T]. O(T).
CASCADA_INLINE constexpr clusters list_clusters(const representatives& state, index_t* cluster_of, index_t* offsets,
                                                index_t* members) noexcept {
  const index_t tokens = state.tokens(), count = state.count();
  for (index_t j = 0; j <= count; ++j) offsets[j] = 0;
  // A representative comes before the tokens it stands for, so this is the order of R.
  detail::number_clusters(state, 0, tokens, 0, cluster_of);
  for (index_t i = 0; i < tokens; ++i) ++offsets[cluster_of[i] + 1];
  for (index_t j = 0; j < count; ++j) offsets[j + 1] += offsets[j];
  // While members are filled in, offsets[j] is the place of the cluster's next one; afterwards that is its end.
  for (index_t i = 0; i < tokens; ++i) members[offsets[cluster_of[i]]++] = i;
  for (index_t j = count; j > 0; --j) offsets[j] = offsets[j - 1];
  offsets[0]      = 0;
  const auto size = static_cast<std::size_t>(tokens);
  return {{cluster_of, size}, {offsets, static_cast<std::size_t>(count) + 1}, {members, size}};
}

}  // namespace cascada::inline CASCADA_ABI
