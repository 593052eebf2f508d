#pragma once
// Rows of q, k and v on their way to the tile kernel: converted, scaled, packed; and one worker's workspace.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/pair_tile.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/base/bf16_pairs.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/canonical.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Rows that are read or written this much later are asked for now: rows of a head lie too far apart for the hardware
/// to guess the next.
inline constexpr index_t rows_ahead = 16;

/// Elements of a computed row that one request for a line of memory brings.
inline constexpr index_t elements_asked_for = 32;

template <bool Write = false, class Scalar>
CASCADA_INLINE void prefetch_row(Scalar* row, index_t dim) noexcept {
  for (index_t c = 0; c < dim; c += 64 / static_cast<index_t>(sizeof(Scalar))) __builtin_prefetch(row + c, Write);
}
template <class Scalar>
CASCADA_INLINE void prefetch_row(const strided_row<Scalar>& row, index_t dim) noexcept {
  if (row.step == 1) prefetch_row(row.data, dim);
}
template <computed_row Row>
CASCADA_INLINE void prefetch_row(const Row& row, index_t dim) noexcept {
  for (index_t c = 0; c < dim; c += elements_asked_for) __builtin_prefetch(row.address(c));
}

/// panels [lanes, block_keys], k-major, of rows key(0) .. key(count - 1). Columns up to a whole vector are zero, of
/// pairs up to a whole panel; `squares` gets the sum of the squares of each key of pairs. Flat: Eigen's transpose would
/// otherwise be a function of its own, which differently compiled objects share.
template <cpu_backend B, class E, class Key>
[[gnu::flatten]] void pack_keys(const Key& key, index_t count, index_t dim, float* panels,
                                [[maybe_unused]] float* squares) noexcept {
  constexpr index_t width = vec<B>::width;
  const index_t     lanes = lanes_of<B, E>(dim);
  for (index_t first = 0; first < count; first += width) {
    const index_t    some                = count - first < width ? count - first : width;
    decltype(key(0)) rows[extent(width)] = {};
    for (index_t i = 0; i < some; ++i) rows[i] = key(first + i);
    float*  columns = panels + panel_offset<B>(first, lanes);
    auto    sum     = vec<B>::zero();
    index_t k       = 0;
    for (; k + width <= lanes; k += width) {
      vec<B> tile[extent(width)];
      for (index_t i = 0; i < width; ++i) tile[i] = i < some ? load_lanes<B, E>(rows[i], k, dim) : vec<B>::zero();
      transpose(tile);
      for (index_t i = 0; i < width; ++i) tile[i].store(columns + std::int64_t{k + i} * block_keys<B>);
      if constexpr (!std::same_as<E, float>)
        for (index_t i = 0; i < width; ++i) sum = add_products<E>(tile[i], tile[i], sum);
    }
    if constexpr (!std::same_as<E, float>) sum.store(squares + first);
    for (; k < lanes; ++k)  // of floats
      for (index_t i = 0; i < width; ++i) columns[std::int64_t{k} * block_keys<B> + i] = i < some ? rows[i][k] : 0.0f;
  }
}

/// rows [count, stride] of value(0) .. value(count - 1), zero beyond dim.
template <cpu_backend B, class Value>
void pack_values(const Value& value, index_t count, index_t dim, index_t stride, float* rows) noexcept {
  for (index_t i = 0; i < count; ++i, rows += stride) {
    const auto row = value(i);
    index_t    c   = 0;
    for (; c + vec<B>::width <= dim; c += vec<B>::width) load_lanes<B, float>(row, c, dim).store(rows + c);
    for (; c < stride; ++c) rows[c] = c < dim ? row[c] : 0.0f;
  }
}

/// One sequence of a call: its tokens' keys and values, and queries of the last ones. Positions count from its first
/// token.
template <row_scalar Scalar, kv_view KV, row_scalar Out>
struct attention_sequence {
  heads_view<const Scalar> q;
  const KV&                kv;
  heads_view<Out>          out;
  matrix_view<float>       log_sum_exp = {};
  const float*             sink_logits = nullptr;  // [heads], or null
  score_terms              terms       = {};
  index_t                  base       = 0;  // of the keys: where the sequence begins in kv
  index_t                  query_base = 0;  // where position 0 would lie in q and out
  index_t                  first      = 0;  // position of the first query; below 0 where queries outnumber keys
  index_t                  tokens     = 0;  // T
  index_t                  group      = 1;  // query heads per KV head
  float                    scale      = 0;  // of the logits, times log2 e

  CASCADA_INLINE index_t       queries() const noexcept { return tokens - first; }
  CASCADA_INLINE const Scalar* query(index_t token, index_t kv_head, index_t member) const noexcept {
    return q.row(query_base + token, kv_head * group + member);
  }
  CASCADA_INLINE auto key(index_t token, index_t kv_head) const noexcept { return kv.key(base + token, kv_head); }
  CASCADA_INLINE auto value(index_t token, index_t kv_head) const noexcept { return kv.value(base + token, kv_head); }
  CASCADA_INLINE Out* result(index_t token, index_t kv_head, index_t member) const noexcept {
    return out.row(query_base + token, kv_head * group + member);
  }
  /// Null if nobody asks.
  CASCADA_INLINE float* log_sum_exp_of(index_t token, index_t kv_head, index_t member) const noexcept {
    return log_sum_exp.data ? log_sum_exp.row(query_base + token) + kv_head * group + member : nullptr;
  }
};

/// Rows of all KV heads that share the keys' way through memory, where nothing is packed (in_place.hpp).
inline constexpr index_t rows_of_heads = 32;

/// Query rows with the memory behind them.
template <cpu_backend B, class E = float>
class query_tile {
 public:
  void reserve(std::int64_t rows, index_t key_dim, index_t value_dim) {
    queries_.reserve(rows * lanes_of<B, E>(key_dim));
    if constexpr (!std::same_as<E, float>) lengths_.reserve(rows);
    maxima_.reserve(rows);
    sums_.reserve(rows * vec<B>::width);
    values_.reserve(rows * whole_vectors<B>(value_dim));
  }

  /// Rows for `tokens` tokens of a KV group that have seen nothing; the queries are left to fill in.
  query_rows<B, E> begin(index_t tokens, index_t group, index_t key_dim, index_t value_dim) noexcept {
    const query_rows<B, E> tile = {.rows         = tokens * group,
                                   .group        = group,
                                   .key_lanes    = lanes_of<B, E>(key_dim),
                                   .value_stride = whole_vectors<B>(value_dim),
                                   .queries      = queries_.data(),
                                   .lengths      = lengths_.data(),
                                   .maxima       = maxima_.data(),
                                   .sums         = sums_.data(),
                                   .values       = values_.data()};
    clear(tile);
    if constexpr (!std::same_as<E, float>)
      for (index_t row = 0; row < tile.rows; ++row) tile.lengths[row] = unknown_length;
    return tile;
  }

 private:
  buffer<float, B> queries_, lengths_, maxima_, sums_, values_;
};

/// What one worker needs to attend to rows.
template <cpu_backend B, class E>
struct attention_scratch {
  query_tile<B, E> tile;
  buffer<float, B> keys;    // panels [key_lanes, block_keys] of step_keys keys
  buffer<float, B> values;  // [lanes of step_keys, value_stride]
  buffer<float, B> wild;    // pairs: as values
  buffer<float, B> reach;   // pairs: [step_keys]
  buffer<float, B> scores;  // rows of score_stride, and of weight_stride
  buffer<float, B> bias;    // [tokens, step_keys]; weighted r x r only: prepare reserves it

  buffer<index_t, B> positions;  // of the keys of a block, with slopes

  void reserve(index_t tokens, index_t group, index_t key_dim, index_t value_dim) {
    constexpr std::int64_t step = step_keys<B, E>;
    tile.reserve(std::int64_t{tokens} * group, key_dim, value_dim);
    keys.reserve(lanes_of<B, E>(key_dim) * step);
    values.reserve(whole_vectors<B>(value_dim) * step / elements_per_lane<E>);
    if constexpr (!std::same_as<E, float>) wild.reserve(values.capacity()), reach.reserve(rows_of_heads * step);
    positions.reserve(step);
    scores.reserve(std::int64_t{rows_of_heads} * (score_stride<B, E> + weight_stride<B, E>));
  }
};

/// Query tokens of a tile at most: enough rows to repay the packing of keys, few enough for the L2 cache.
template <cpu_backend B, class E>
CASCADA_INLINE index_t tile_tokens(index_t group, index_t key_dim, index_t value_dim) noexcept {
  constexpr index_t most = 2048, lanes = 1 << 19;  // 2 MB of queries and values
  const index_t     fit  = lanes / (lanes_of<B, E>(key_dim) + whole_vectors<B>(value_dim));
  const index_t     rows = fit < most ? fit : most;
  return group < rows ? rows / group : 1;
}

/// Rows for `count` tokens of a sequence, which have seen nothing; the queries are left to fill in.
template <cpu_backend B, class E, class Sequence>
query_rows<B, E> begin_queries(const Sequence& sequence, index_t count, query_tile<B, E>& memory) noexcept {
  auto tile = memory.begin(count, sequence.group, sequence.q.dim, sequence.kv.value_dim());
  if constexpr (!std::same_as<E, float>) tile.scale = sequence.scale;
  return tile;
}

/// The mean of element(0) .. element(count - 1); of finite ones it is finite, as in leaves.hpp.
template <cpu_backend B, class Element>
CASCADA_INLINE float mean_of(index_t count, const Element& element) noexcept {
  float sum = 0;
  for (index_t i = 0; i < count; ++i) sum += element(i);
  if (is_finite<B>(sum)) return sum / static_cast<float>(count);
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
  for (index_t member = 0; member < token.group; ++member) {
    float* mean = token.queries + std::int64_t{member} * token.key_lanes;
    for (index_t k = 0; k < token.key_lanes; ++k) mean[k] = 0;
    for (index_t k = 0; k < sequence.q.dim; ++k) {
      const auto element = [&](index_t i) { return to_float(sequence.query(tokens[i], kv_head, member)[k]); };
      set_query<B, E>(mean, k, mean_of<B>(count, element), sequence.scale);
    }
  }
}

/// Times scale, the length of a row with that square, or a little more: squares of elements below 2^-63 are lost. Bits
/// tell what is not finite, whatever -ffast-math assumes.
template <cpu_backend B>
CASCADA_INLINE float length_of(float square, float scale = 1) noexcept {
  if (std::bit_cast<std::uint32_t>(square) >= 0x7f80'0000u) return unknown_length;
  return (1.01f * std::sqrt(square) + 0x1p-56f) * scale;
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

/// Turns the squares of keys into the largest length so far.
template <cpu_backend B>
CASCADA_INLINE void lengths_so_far(index_t count, float* squares) noexcept {
  float most = 0;
  for (index_t i = 0; i < count; ++i) {
    const float length = length_of<B>(squares[i]);
    squares[i] = most = length > most ? length : most;
  }
}

/// A row that has seen nothing sees a logit without a value.
template <cpu_backend B, class E>
CASCADA_INLINE void see_sink(const query_rows<B, E>& tile, index_t row, float logit) noexcept {
  constexpr auto largest = static_cast<double>(std::numeric_limits<float>::max());
  const auto     bits = std::bit_cast<std::uint32_t>(logit), size = bits & 0x7fff'ffffu;
  float*         sum = tile.sums + row * vec<B>::width;
  if (bits == std::bit_cast<std::uint32_t>(-std::numeric_limits<float>::infinity())) return;
  if (size > 0x7f80'0000u) {  // by bits, whatever -ffast-math assumes
    *sum = logit;
    return;
  }
  const double base_2 = static_cast<double>(logit) * std::numbers::log2e;
  const double within = base_2 > largest ? largest : base_2 < -largest ? -largest : base_2;
  if (!std::same_as<E, float> &&
      std::fabs(within) <= static_cast<double>(small_logit)) {  // as rows of small logits are
    tile.maxima[row] = 0;
    *sum             = static_cast<float>(std::exp2(within));
  } else {
    tile.maxima[row] = static_cast<float>(within);
    *sum             = 1;
  }
}

/// The same for the rows of a KV head, if the call has sink logits.
template <cpu_backend B, class E, class Sequence>
CASCADA_INLINE void see_sinks(const Sequence& sequence, index_t kv_head, const query_rows<B, E>& tile) noexcept {
  if (!sequence.sink_logits) return;
  for (index_t row = 0; row < tile.rows; ++row)
    see_sink(tile, row, sequence.sink_logits[kv_head * tile.group + row % tile.group]);
}

/// Fills in the queries of tokens token(0), ..., which have seen nothing but their sinks' logits.
template <cpu_backend B, class E, class Sequence, class Token>
void load_queries(const Sequence& sequence, index_t kv_head, const Token& token,
                  const query_rows<B, E>& tile) noexcept {
  const index_t count = tile.rows / tile.group;
  float*        to    = tile.queries;
  for (index_t i = 0; i < count; ++i)
    for (index_t member = 0; member < sequence.group; ++member, to += tile.key_lanes) {
      const auto* row = sequence.query(token(i), kv_head, member);
      if (i + rows_ahead < count) prefetch_row(sequence.query(token(i + rows_ahead), kv_head, member), sequence.q.dim);
      if constexpr (std::same_as<E, float>)
        for (index_t k = 0; k < tile.key_lanes; ++k) to[k] = to_float(row[k]) * sequence.scale;
      else
        tile.lengths[i * sequence.group + member] =
            length_of<B>(load_pairs<B>(row, sequence.q.dim, tile.key_lanes, to), sequence.scale);
    }
  see_sinks(sequence, kv_head, tile);
}

/// The queries of tokens token(0) .. token(count - 1), of one KV head after the other.
template <cpu_backend B, class E, class Sequence, class Token>
query_rows<B, E> load_queries(const Sequence& sequence, index_t kv_head, index_t heads, index_t count,
                              const Token& token, attention_scratch<B, E>& scratch) noexcept {
  const auto tile = begin_queries(sequence, heads * count, scratch.tile);
  for (index_t h = 0; h < heads; ++h) load_queries(sequence, kv_head + h, token, tile.part(h * count, count));
  return tile;
}

/// Packs keys and values of rows first .. first + block.count - 1. What is read next is on its way meanwhile: values
/// while keys are packed, and the keys of the next block, up to `count`, while values are.
template <cpu_backend B, class E, class Key, class Value>
void pack_block(const Key& key, const Value& value, index_t first, index_t count, const query_rows<B, E>& tile,
                index_t key_dim, index_t value_dim, attention_scratch<B, E>& scratch, key_block& block) noexcept {
  const auto next_value = [&](index_t i) {
    if (first + block.count + i < count) prefetch_row(key(first + block.count + i), key_dim);
    return value(first + i);
  };
  const auto next_key   = [&](index_t i) {
    if (i + rows_ahead < block.count) prefetch_row(key(first + i + rows_ahead), key_dim);
    prefetch_row(value(first + i), value_dim);
    return key(first + i);
  };
  pack_keys<B, E>(next_key, block.count, key_dim, scratch.keys.data(), scratch.reach.data());
  if constexpr (std::same_as<E, float>) {
    pack_values<B>(next_value, block.count, value_dim, tile.value_stride, scratch.values.data());
  } else {
    float*     reach = scratch.reach.data();
    const auto large = [&](index_t i) { reach[i] = std::numeric_limits<float>::infinity(); };  // as a square
    if (!pack_value_pairs<B>(next_value, block.count, value_dim, tile.value_stride, scratch.values.data(), large)) {
      const std::int64_t lanes = std::int64_t{whole_weights(block.count) / 2} * tile.value_stride;
      separate_wild<B>(scratch.values.data(), lanes, scratch.wild.data());
      block.wild = scratch.wild.data();
    }
    lengths_so_far<B>(block.count, reach);
    block.reach = reach;
  }
}

/// The results of tokens token(0) .. of a tile of one KV head.
template <cpu_backend B, class E, class Sequence, class Token>
void write_results(const Sequence& sequence, index_t kv_head, const query_rows<B, E>& tile,
                   const Token& token) noexcept {
  const index_t value_dim = sequence.kv.value_dim();
  for (index_t i = 0; i < tile.rows / tile.group; ++i)
    for (index_t member = 0; member < tile.group; ++member) {
      if (i + rows_ahead < tile.rows / tile.group)
        prefetch_row<true>(sequence.result(token(i + rows_ahead), kv_head, member), value_dim);
      write_row(tile, i * tile.group + member, value_dim, sequence.result(token(i), kv_head, member));
      if (float* to = sequence.log_sum_exp_of(token(i), kv_head, member))
        *to = log_sum_exp(tile, i * tile.group + member);
    }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
