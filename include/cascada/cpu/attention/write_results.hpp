#pragma once
// Query rows on their way out: outputs and log-sum-exps.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/attention/sequence.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Whether a row saw nothing, by the sum of its weights; by bits: -ffast-math may take NaN for 0.
template <cpu_backend B>
CASCADA_INLINE bool saw_nothing(float sum) noexcept {
  return (std::bit_cast<std::uint32_t>(sum) << 1) == 0;
}

/// The natural logarithm of the sum of a row's weights.
template <cpu_backend B, class E>
float log_sum_exp(const query_rows<B, E>& tile, index_t row) noexcept {
  const float sum = tile.sum(row);
  if (saw_nothing<B>(sum)) return -std::numeric_limits<float>::infinity();
  const double base_2 = static_cast<double>(tile.maxima[row]) + std::log2(static_cast<double>(sum));
  return static_cast<float>(base_2 * std::numbers::ln2);
}

/// out [value_dim] = values / sum of the weights; zeros for a row that saw nothing.
template <cpu_backend B, class E, row_scalar Out>
void write_row(const query_rows<B, E>& tile, index_t row, index_t value_dim, Out* out) noexcept {
  const float sum   = tile.sum(row);
  const bool  blind = saw_nothing<B>(sum);
  for (index_t c = 0; c < value_dim; c += vec<B>::width) {
    auto average = blind ? vec<B>::zero() : quotient(vec<B>::load(tile.values_of(row) + c), sum);
    // Values that a row does not see, times 0, may have turned its -0 into 0: make it 0 always.
    if constexpr (!std::same_as<E, float>) average = average + vec<B>::zero();
    if (c + vec<B>::width <= value_dim) {
      store_elements(average, out + c);
      continue;
    }
    float elements[vec<B>::width];
    average.store(elements);
    for (index_t lane = 0; lane < vec<B>::width && c + lane < value_dim; ++lane)
      out[c + lane] = from_float<Out>(elements[lane]);
  }
}

/// The results of tokens token(0) .. of a tile of one KV head.
template <cpu_backend B, class E, class Sequence, class Token>
void write_results(const Sequence& sequence, index_t kv_head, const query_rows<B, E>& tile,
                   const Token& token) noexcept {
  const index_t value_dim = sequence.kv.value_dim();
  for (index_t i = 0; i < tile.rows / tile.group; ++i)
    for (index_t head_of_group = 0; head_of_group < tile.group; ++head_of_group) {
      if (i + rows_ahead < tile.rows / tile.group)
        prefetch_row<true>(sequence.result(token(i + rows_ahead), kv_head, head_of_group), value_dim);
      write_row(tile, i * tile.group + head_of_group, value_dim, sequence.result(token(i), kv_head, head_of_group));
      if (float* to = sequence.log_sum_exp_of(token(i), kv_head, head_of_group))
        *to = log_sum_exp(tile, i * tile.group + head_of_group);
    }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
