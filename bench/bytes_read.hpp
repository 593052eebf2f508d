#pragma once
// How much of what dense attention reads a call of near + far reads.

#include <concepts>

#include "cascada/cascada.hpp"

namespace bench {

/// Bytes of keys, values and summaries that a call read, of what dense attention reads. Rows of keys and values have
/// `dim` columns each; `options` have moments.
template <cascada::row_scalar Scalar, cascada::cpu_backend B>
double share_of_bytes(const cascada::attention_report& report, const cascada::attention_options& options,
                      cascada::index_t dim) {
  constexpr bool pairs   = !std::same_as<cascada::kernel::operand_of<Scalar, B>, float>;
  const bool     bytes   = options.summaries == cascada::summary_type::bytes;
  const bool     rounded = pairs || options.summaries == cascada::summary_type::bfloat16;
  const double   others  = 4.0 * (*options.moments + 2 + (bytes ? 2 : 0));  // spread, count, scales
  const double   row = 2.0 * dim * sizeof(Scalar), leaf = 2.0 * dim * (bytes ? 1 : rounded ? 2 : 4) + others;
  const auto     rows = static_cast<double>(report.near_keys + report.opened);
  return (rows * row + static_cast<double>(report.leaves) * leaf) / (static_cast<double>(report.dense_keys) * row);
}

}  // namespace bench
