#pragma once
// Query rows on their way in: loaded or averaged, with the sink logits that they see first.

#include <bit>
#include <cmath>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/attention/query_tile.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/attention/row_lengths.hpp"
#include "cascada/cpu/attention/sequence.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"
#include "cascada/scalar.hpp"
#include "cascada/sink_logit.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows for `count` tokens of a sequence, which have seen nothing; the queries are left to fill in.
template <cpu_backend B, class E, class Sequence>
query_rows<B, E> begin_queries(const Sequence& sequence, index_t count, query_tile<B, E>& memory) noexcept {
  auto tile = memory.begin(count, sequence.group, sequence.q.dim, sequence.kv.value_dim());
  if constexpr (!std::same_as<E, float>) tile.scale = sequence.scale;
  return tile;
}

/// The mean of element(0) .. element(count - 1); of finite ones it is finite, as means of leaves are
/// (leaf_statistics.hpp).
template <cpu_backend B, class Element>
CASCADA_INLINE float mean_of(index_t count, const Element& element) noexcept {
  float sum = 0;
  for (index_t i = 0; i < count; ++i) sum += element(i);
  if (detail::is_finite(sum)) return sum / static_cast<float>(count);
  double all = 0;
  for (index_t i = 0; i < count; ++i) all += static_cast<double>(element(i));
  return static_cast<float>(all / count);
}

/// Writes element k of a query row.
template <cpu_backend B, class E>
CASCADA_INLINE void set_query(float* row, index_t k, float mean, float scale) noexcept {
  if constexpr (std::same_as<E, float>)
    row[k] = mean * scale;
  else
    set_element(row, k, from_float<bfloat16>(mean));
}

/// Fills in one token's queries with the mean of `count` tokens' queries.
template <cpu_backend B, class E, class Sequence>
void mean_queries(const Sequence& sequence, index_t kv_head, const index_t* tokens, index_t count,
                  const query_rows<B, E>& token) noexcept {
  for (index_t head_of_group = 0; head_of_group < token.group; ++head_of_group) {
    float* mean = token.queries + std::int64_t{head_of_group} * token.key_lanes;
    for (index_t k = 0; k < token.key_lanes; ++k) mean[k] = 0;
    for (index_t k = 0; k < sequence.q.dim; ++k) {
      const auto element = [&](index_t i) { return to_float(sequence.query(tokens[i], kv_head, head_of_group)[k]); };
      set_query<B, E>(mean, k, mean_of<B>(count, element), sequence.scale);
    }
  }
}

/// A query row as pairs. Returns the square of its length.
template <cpu_backend B>
CASCADA_INLINE float load_pairs(const bfloat16* row, index_t dim, index_t lanes, float* to) noexcept {
  auto sum = vec<B>::zero();
  for (index_t k = 0; k < lanes; k += vec<B>::width) {
    const auto pairs = load_lanes<B, bf16_pair>(strided_row<bfloat16>{row}, k, dim);
    pairs.store(to + k);
    sum = add_products<bf16_pair>(pairs, pairs, sum);
  }
  return reduce_sum(sum);
}

/// A row that has seen nothing sees a logit without a value.
template <cpu_backend B, class E>
CASCADA_INLINE void see_sink_logit(const query_rows<B, E>& tile, index_t row, float logit) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(logit), size = bits & 0x7fff'ffffu;
  float*     sum = tile.sums + row * vec<B>::width;
  if (detail::is_minus_infinity(logit)) return;
  if (size > 0x7f80'0000u) {  // by bits, whatever -ffast-math assumes
    *sum = logit;
    return;
  }
  const double base_2 = detail::sink_logit_in_base_2(static_cast<double>(logit));
  if (!std::same_as<E, float> &&
      std::fabs(base_2) <= static_cast<double>(small_logit)) {  // as rows of small logits are
    tile.maxima[row] = 0;
    *sum             = static_cast<float>(std::exp2(base_2));
  } else {
    tile.maxima[row] = static_cast<float>(base_2);
    *sum             = 1;
  }
}

/// The same for the rows of a KV head, if the call has sink logits.
template <cpu_backend B, class E, class Sequence>
CASCADA_INLINE void see_sink_logits(const Sequence& sequence, index_t kv_head, const query_rows<B, E>& tile) noexcept {
  if (!sequence.sink_logits) return;
  for (index_t row = 0; row < tile.rows; ++row)
    see_sink_logit(tile, row, sequence.sink_logits[kv_head * tile.group + row % tile.group]);
}

/// Fills in the queries of tokens token(0), ..., which have seen nothing but their sinks' logits.
template <cpu_backend B, class E, class Sequence, class Token>
void load_queries(const Sequence& sequence, index_t kv_head, const Token& token,
                  const query_rows<B, E>& tile) noexcept {
  const index_t count = tile.rows / tile.group;
  float*        to    = tile.queries;
  for (index_t i = 0; i < count; ++i)
    for (index_t head_of_group = 0; head_of_group < sequence.group; ++head_of_group, to += tile.key_lanes) {
      const auto* row = sequence.query(token(i), kv_head, head_of_group);
      if (i + rows_ahead < count)
        prefetch_row(sequence.query(token(i + rows_ahead), kv_head, head_of_group), sequence.q.dim);
      if constexpr (std::same_as<E, float>)
        for (index_t k = 0; k < tile.key_lanes; ++k) to[k] = to_float(row[k]) * sequence.scale;
      else
        tile.lengths[i * sequence.group + head_of_group] =
            length_of<B>(load_pairs<B>(row, sequence.q.dim, tile.key_lanes, to), sequence.scale);
    }
  see_sink_logits(sequence, kv_head, tile);
}

/// The queries of tokens token(0) .. token(count - 1), of one KV head after the other.
template <cpu_backend B, class E, class Sequence, class Token>
query_rows<B, E> load_queries(const Sequence& sequence, index_t kv_head, index_t heads, index_t count,
                              const Token& token, query_tile<B, E>& memory) noexcept {
  const auto tile = begin_queries(sequence, heads * count, memory);
  for (index_t h = 0; h < heads; ++h) load_queries(sequence, kv_head + h, token, tile.part(h * count, count));
  return tile;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
