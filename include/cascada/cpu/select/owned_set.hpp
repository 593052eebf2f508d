#pragma once
// Owned representatives of one layer.

#include <algorithm>
#include <utility>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/representatives.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Owned representatives of one layer (representatives.hpp gives the shapes). None once moved from.
template <cpu_backend B>
struct selection_state {
  buffer<index_t, B> indices;
  buffer<index_t, B> rep;
  buffer<index_t, B> counts;
  index_t            tokens = 0;
  index_t            count  = 0;

  selection_state()                       = default;
  selection_state(const selection_state&) = default;
  selection_state(selection_state&& other) noexcept
      : indices(std::move(other.indices)),
        rep(std::move(other.rep)),
        counts(std::move(other.counts)),
        tokens(std::exchange(other.tokens, 0)),
        count(std::exchange(other.count, 0)) {}
  selection_state& operator=(selection_state other) noexcept {
    indices = std::move(other.indices), rep = std::move(other.rep), counts = std::move(other.counts);
    tokens = other.tokens;
    count  = other.count;
    return *this;
  }

  /// Room for the sets of T tokens. Forgets the set.
  void reserve(index_t T, index_t limit) {
    tokens = count = 0;
    rep.reserve(T), indices.reserve(limit), counts.reserve(limit);
  }

  /// Copies a set, with room for those of later layers.
  void assign(const representatives& from) {
    reserve(from.tokens(), from.tokens());
    tokens = from.tokens();
    count  = from.count();
    std::copy_n(from.rep.data(), tokens, rep.data());
    std::copy_n(from.indices.data(), count, indices.data());
    std::copy_n(from.counts.data(), count, counts.data());
  }

  CASCADA_INLINE bool has_room(index_t T, index_t limit) const noexcept {
    return rep.capacity() >= T && indices.capacity() >= limit && counts.capacity() >= limit;
  }

  /// Room as reserve() makes it; the set stays, in other memory. If memory runs out, all stays as it was.
  void grow(index_t T, index_t limit) {
    if (has_room(T, limit)) return;
    selection_state larger;
    larger.reserve(std::max(T, tokens), std::max(limit, count));
    larger.tokens = tokens;
    larger.count  = count;
    std::copy_n(rep.data(), tokens, larger.rep.data());
    std::copy_n(indices.data(), count, larger.indices.data());
    std::copy_n(counts.data(), count, larger.counts.data());
    *this = std::move(larger);
  }

  CASCADA_INLINE representatives view(detail::set_stamp stamp = {}) const noexcept {
    const auto T = static_cast<std::size_t>(tokens), r = static_cast<std::size_t>(count);
    return {{indices.data(), r}, {rep.data(), T}, {counts.data(), r}, stamp};
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
