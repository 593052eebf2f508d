#pragma once
// The set R that a selection keeps, and the token each member stands for.

#include <cstdint>
#include <optional>
#include <span>

#include "cascada/config.hpp"
#include "cascada/set_stamp.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI {

/// The representatives of T tokens, in memory that belongs to someone else (owned_representatives.hpp: in its own).
///
/// indices [r]  token indices of R, ascending
/// rep     [T]  the representative that stands for each token; rep[i] <= i, and rep[i] == i iff i is in R
/// counts  [r]  tokens that each representative stands for, itself included; their sum is T
/// stamp        of a view that kept() gave: whose set it is. Views made by hand need none
///
/// What kept() gives is a view of what its owner keeps until the next set takes its place. Moving the owner takes the
/// set along, and views of it stay good. Calls that read representatives (attention, inherit, check) refuse a view
/// whose owner has replaced the set since, by a selection (even one that was refused, once it had made room), step,
/// inherit, extension, reset, truncate, clear, load, assignment or by being what fork() writes to, or is gone
/// (`invalid_representatives`), and read nothing of its memory; a copy of it (owned_representatives) has no tokens. In
/// every build, at no cost that shows: a number is compared. Not noticed are some sets of which thousands have been
/// replaced since (set_stamp.hpp), spans that were taken out of a view (`below` of growing_selection), jaccard() and
/// list_clusters(), which answer with no status, and a replacement on another thread during the call.
struct representatives {
  std::span<const index_t> indices;
  std::span<const index_t> rep;
  std::span<const index_t> counts;
  detail::set_stamp        stamp = {};

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

namespace detail {

CASCADA_INLINE constexpr status illegal(const char* why) noexcept { return {status::invalid_representatives, why}; }

/// Whether counts[k] is how often indices[k] occurs in rep, given that the two agree. Nothing is allocated: a window of
/// representatives at a time, O(T) for each, and no token before a window has its representative there.
[[nodiscard]] CASCADA_INLINE constexpr bool counts_agree(const representatives& state) noexcept {
  constexpr std::uint32_t window = 4096;
  const index_t*          rep    = state.rep.data();
  std::uint32_t           counted[window];
  for (index_t k = 0; k < state.count();) {
    const index_t first = state.indices.data()[k];
    for (std::uint32_t& count : counted) count = 0;
    for (index_t i = first; i < state.tokens(); ++i) {
      const auto place = static_cast<std::uint32_t>(rep[i] - first);  // of an earlier one: beyond the window
      if (place < window) ++counted[place];
    }
    for (; k < state.count(); ++k) {
      const auto place = static_cast<std::uint32_t>(state.indices.data()[k] - first);
      if (place >= window) break;
      if (static_cast<std::int64_t>(counted[place]) != state.counts.data()[k]) return false;
    }
  }
  return true;
}

}  // namespace detail

/// Whether some selection of `tokens` tokens could have left this state. `invalid_representatives` otherwise, with the
/// first of its rules that is broken. O(T) up to T = 4096, then O(T^2 / 8192).
[[nodiscard]] CASCADA_INLINE constexpr status check(const representatives& state, index_t tokens) noexcept {
  const index_t *rep = state.rep.data(), *indices = state.indices.data();
  if (state.stamp.stale())
    return detail::illegal("representatives is a view of a set that its owner has replaced: call kept() again");
  if (tokens < 0 || state.rep.size() != static_cast<std::size_t>(tokens))
    return detail::illegal("representatives.rep has not one entry for each token");
  if (state.indices.size() > state.rep.size())
    return detail::illegal("representatives.indices has more entries than tokens");
  if (state.counts.size() != state.indices.size())
    return detail::illegal("representatives.counts has not one entry for each of representatives.indices");
  index_t members = 0;
  for (index_t i = 0; i < tokens; ++i) {
    if (rep[i] < 0) return detail::illegal("representatives.rep has a negative entry");
    if (rep[i] > i) return detail::illegal("representatives.rep names a token after the one it stands for");
    if (rep[rep[i]] != rep[i])
      return detail::illegal("representatives.rep names a token that does not stand for itself");
    members += rep[i] == i;
  }
  for (index_t k = 0; k < state.count(); ++k) {
    if (indices[k] < 0 || indices[k] >= tokens)
      return detail::illegal("representatives.indices has an entry that is no token");
    if (k > 0 && indices[k] <= indices[k - 1]) return detail::illegal("representatives.indices does not ascend");
    if (rep[indices[k]] != indices[k])
      return detail::illegal("representatives.indices has a token that does not stand for itself");
  }
  if (members != state.count()) return detail::illegal("representatives.indices lacks a token that stands for itself");
  if (!detail::counts_agree(state))
    return detail::illegal("representatives.counts are not how many tokens each of representatives.indices stands for");
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI
