#pragma once
// What a call of attention did: how many keys its rows read, and what it left to summaries.

#include <cstdint>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

/// Sums over the rows of a call; a row is a (token, KV head). The same for any number of threads.
struct attention_report {
  std::int64_t rows       = 0;
  std::int64_t dense_keys = 0;  // what dense attention of the same rows reads
  std::int64_t near_keys  = 0;  // tokens of near fields, sinks among them; of dense attention, all it reads
  std::int64_t leaves     = 0;  // leaves before a row's edge, or representatives
  std::int64_t opened     = 0;  // tokens of open leaves, as rows see them
  std::int64_t computed   = 0;  // the same, as kernels read them: every row of a tile all that the tile opens
  std::int64_t far_rows   = 0;  // rows that have leaves
  double       mass       = 0;  // share of the softmax that closed leaves of several tokens have, over those rows

  /// Keys that were read, of those that dense attention reads.
  CASCADA_INLINE constexpr double share_of_dense() const noexcept {
    return dense_keys == 0 ? 1.0 : static_cast<double>(near_keys + leaves + computed) / static_cast<double>(dense_keys);
  }
  /// Mean share of the softmax left to closed leaves: an estimate of the error.
  CASCADA_INLINE constexpr double closed_mass() const noexcept {
    return far_rows == 0 ? 0.0 : mass / static_cast<double>(far_rows);
  }

  friend bool operator==(const attention_report&, const attention_report&) = default;
};

}  // namespace cascada::inline CASCADA_ABI
