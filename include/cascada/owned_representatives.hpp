#pragma once
// Representatives with memory of their own.

#include <vector>

#include "cascada/config.hpp"
#include "cascada/representatives.hpp"

namespace cascada::inline CASCADA_ABI {

/// A selection that stays when the object that found it has another. Copies and moves as its vectors do.
struct owned_representatives {
  std::vector<index_t> indices;  // [r], ascending
  std::vector<index_t> rep;      // [T]
  std::vector<index_t> counts;   // [r]

  /// A copy of what a view shows: of none if its owner has replaced the set (representatives.hpp), which calls that
  /// want T tokens then refuse. O(T + r).
  static owned_representatives of(const representatives& kept) {
    if (kept.stamp.stale()) return {};
    return {{kept.indices.begin(), kept.indices.end()},
            {kept.rep.begin(), kept.rep.end()},
            {kept.counts.begin(), kept.counts.end()}};
  }

  /// Until the vectors change.
  representatives view() const noexcept { return {indices, rep, counts}; }

  friend bool operator==(const owned_representatives&, const owned_representatives&) = default;
};

}  // namespace cascada::inline CASCADA_ABI
