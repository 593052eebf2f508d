#pragma once
// What a selection cost and how it moved: Gram operations by kind, savings, overlap with the layer before.

#include <cstdint>
#include <optional>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

/// Gram operations: distinct pairs whose cosine the scalar algorithm asks for, in token order. The same on every
/// backend, for any number of threads. Norms are not counted.
struct gram_operations {
  std::int64_t selection  = 0;  // full selection: tokens against earlier representatives
  std::int64_t inherited  = 0;  // cascade: tokens against the representative they inherit
  std::int64_t validation = 0;  // cascade: former representatives against earlier representatives
  std::int64_t orphans    = 0;  // cascade: tokens whose inherited check failed, against earlier representatives
  std::int64_t cross_gram = 0;  // paper mode: (T - r) x r, all of them

  CASCADA_INLINE constexpr std::int64_t total() const noexcept {
    return selection + inherited + validation + orphans + cross_gram;
  }
  friend bool operator==(const gram_operations&, const gram_operations&) = default;
};

/// Pairs below the diagonal of the T x T Gram matrix, T (T - 1) / 2: the denominator of every saving reported here.
/// The paper does not say which it uses.
[[nodiscard]] CASCADA_INLINE constexpr std::int64_t full_gram_operations(index_t tokens) noexcept {
  return tokens < 2 ? 0 : std::int64_t{tokens} * (tokens - 1) / 2;
}

/// One layer's selection. A full selection has no `jaccard`, and no counts of a step.
struct selection_report {
  index_t         tokens          = 0;
  index_t         representatives = 0;
  gram_operations gram            = {};
  std::int64_t    pairs_evaluated = 0;  // inner products the kernels computed or estimated, rechecks included
  std::optional<std::int64_t> pairs_rechecked = {};  // of these, those that an estimate had left open; not on gfx942
  std::optional<double>       jaccard         = {};  // overlap with the layer before
  index_t                     additions       = 0;   // representatives that were none before
  index_t                     removals        = 0;   // former representatives that are covered now
  index_t                     inherited       = 0;   // tokens still covered by the representative they inherit
  index_t                     orphans         = 0;   // tokens that no longer are

  /// Share of the full Gram matrix that was not evaluated.
  CASCADA_INLINE constexpr double savings() const noexcept { return saved(gram.total()); }
  /// The same, counting the cross-Gram products alone. Meaningful for a step of paper mode.
  CASCADA_INLINE constexpr double savings_cross_gram_only() const noexcept { return saved(gram.cross_gram); }

 private:
  CASCADA_INLINE constexpr double saved(std::int64_t operations) const noexcept {
    const std::int64_t all = full_gram_operations(tokens);
    return all == 0 ? 0.0 : 1.0 - static_cast<double>(operations) / static_cast<double>(all);
  }
};

}  // namespace cascada::inline CASCADA_ABI
