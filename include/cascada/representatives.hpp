#pragma once
// The set R that a selection keeps, and the token each member stands for.

#include <cstdint>
#include <optional>
#include <span>

#include "cascada/config.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI {

/// The representatives of T tokens, in memory that belongs to someone else.
///
/// indices [r]  token indices of R, ascending
/// rep     [T]  the representative that stands for each token; rep[i] <= i, and rep[i] == i iff i is in R
/// counts  [r]  tokens that each representative stands for, itself included; their sum is T
struct representatives {
  std::span<const index_t> indices;
  std::span<const index_t> rep;
  std::span<const index_t> counts;

  CASCADA_INLINE constexpr index_t tokens() const noexcept { return static_cast<index_t>(rep.size()); }
  CASCADA_INLINE constexpr index_t count() const noexcept { return static_cast<index_t>(indices.size()); }
};

/// |A and B| / |A or B| of two sets of representatives. Two empty sets overlap fully (1). O(r).
[[nodiscard]] CASCADA_INLINE constexpr double jaccard(const representatives& a, const representatives& b) noexcept {
  const index_t* in_a   = a.indices.data();
  const index_t* in_b   = b.indices.data();
  index_t        common = 0;
  for (index_t i = 0, j = 0; i < a.count() && j < b.count();) {
    common += in_a[i] == in_b[j];
    const bool advance_a = in_a[i] <= in_b[j], advance_b = in_b[j] <= in_a[i];
    i += advance_a;
    j += advance_b;
  }
  const index_t together = a.count() + b.count() - common;
  return together == 0 ? 1.0 : static_cast<double>(common) / together;
}

/// Whether some selection of `tokens` tokens could have left this state: sizes fit, indices ascend, every token's
/// representative is a member at or before it, counts add up. `invalid_representatives` otherwise. O(T).
[[nodiscard]] CASCADA_INLINE constexpr status check(const representatives& state, index_t tokens) noexcept {
  if (tokens < 0 || state.rep.size() != static_cast<std::size_t>(tokens) || state.indices.size() > state.rep.size() ||
      state.counts.size() != state.indices.size())
    return status::invalid_representatives;
  const index_t* rep     = state.rep.data();
  index_t        members = 0;
  for (index_t i = 0; i < tokens; ++i) {
    if (rep[i] < 0 || rep[i] > i || rep[rep[i]] != rep[i]) return status::invalid_representatives;
    members += rep[i] == i;
  }
  std::int64_t stood_for = 0;
  for (index_t k = 0; k < state.count(); ++k) {
    const index_t member = state.indices.data()[k];
    if (member < 0 || member >= tokens || rep[member] != member) return status::invalid_representatives;
    if (k > 0 && member <= state.indices.data()[k - 1]) return status::invalid_representatives;
    if (state.counts.data()[k] < 1) return status::invalid_representatives;
    stood_for += state.counts.data()[k];
  }
  return members == state.count() && stood_for == tokens ? status::ok : status::invalid_representatives;
}

}  // namespace cascada::inline CASCADA_ABI
