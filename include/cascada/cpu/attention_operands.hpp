#pragma once
// Rows of q, k and v on their way to the tile kernel: converted to float, scaled, packed; and one worker's workspace.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention_tile.hpp"
#include "cascada/cpu/buffer.hpp"
#include "cascada/cpu/simd.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

namespace cascada::kernel {

/// Elements [first, first + width) of a row.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE vec<B> load_elements(strided_row<Scalar> row, index_t first) noexcept {
  if constexpr (std::same_as<Scalar, float>)
    if (row.step == 1) return vec<B>::load(row.data + first);
  float elements[vec<B>::width];
  for (index_t lane = 0; lane < vec<B>::width; ++lane) elements[lane] = row[first + lane];
  return vec<B>::load(elements);
}

/// panels [dim, block_keys], k-major, of rows key(0) .. key(count - 1). Columns up to a whole vector are zero. Flat:
/// Eigen's transpose would otherwise be a function of its own, which differently compiled objects share.
template <cpu_backend B, class Key>
[[gnu::flatten]] void pack_keys(const Key& key, index_t count, index_t dim, float* panels) noexcept {
  constexpr index_t width = vec<B>::width;
  for (index_t first = 0; first < count; first += width) {
    const index_t    lanes       = count - first < width ? count - first : width;
    decltype(key(0)) rows[width] = {};
    for (index_t i = 0; i < lanes; ++i) rows[i] = key(first + i);
    float*  columns = panels + panel_offset<B>(first, dim);
    index_t k       = 0;
    for (; k + width <= dim; k += width) {
      vec<B> tile[width];
      for (index_t i = 0; i < width; ++i) tile[i] = i < lanes ? load_elements<B>(rows[i], k) : vec<B>::zero();
      transpose(tile);
      for (index_t i = 0; i < width; ++i) tile[i].store(columns + std::int64_t{k + i} * block_keys<B>);
    }
    for (; k < dim; ++k)
      for (index_t i = 0; i < width; ++i) columns[std::int64_t{k} * block_keys<B> + i] = i < lanes ? rows[i][k] : 0.0f;
  }
}

/// rows [count, stride] of value(0) .. value(count - 1), zero beyond dim.
template <cpu_backend B, class Value>
void pack_values(const Value& value, index_t count, index_t dim, index_t stride, float* rows) noexcept {
  for (index_t i = 0; i < count; ++i, rows += stride) {
    const auto row = value(i);
    index_t    c   = 0;
    for (; c + vec<B>::width <= dim; c += vec<B>::width) load_elements<B>(row, c).store(rows + c);
    for (; c < stride; ++c) rows[c] = c < dim ? row[c] : 0.0f;
  }
}

/// One sequence of a call. Positions count from its first token, `base` in the views.
template <row_scalar Scalar, kv_view KV, row_scalar Out>
struct attention_sequence {
  heads_view<const Scalar> q;
  const KV&                kv;
  heads_view<Out>          out;
  index_t                  base   = 0;
  index_t                  tokens = 0;  // T
  index_t                  group  = 1;  // query heads per KV head
  float                    scale  = 0;  // of the logits, times log2 e

  CASCADA_INLINE const Scalar* query(index_t token, index_t kv_head, index_t member) const noexcept {
    return q.row(base + token, kv_head * group + member);
  }
  CASCADA_INLINE auto key(index_t token, index_t kv_head) const noexcept { return kv.key(base + token, kv_head); }
  CASCADA_INLINE auto value(index_t token, index_t kv_head) const noexcept { return kv.value(base + token, kv_head); }
  CASCADA_INLINE Out* result(index_t token, index_t kv_head, index_t member) const noexcept {
    return out.row(base + token, kv_head * group + member);
  }
};

/// Query rows with the memory behind them.
template <cpu_backend B>
class query_tile {
 public:
  void reserve(std::int64_t rows, index_t key_dim, index_t value_dim) {
    queries_.reserve(rows * key_dim);
    maxima_.reserve(rows);
    sums_.reserve(rows * vec<B>::width);
    values_.reserve(rows * whole_vectors<B>(value_dim));
  }

  /// Rows for `tokens` tokens of a KV group that have seen nothing; the queries are left to fill in.
  query_rows<B> begin(index_t tokens, index_t group, index_t key_dim, index_t value_dim) noexcept {
    const query_rows<B> tile = {tokens * group,  group,          key_dim,      whole_vectors<B>(value_dim),
                                queries_.data(), maxima_.data(), sums_.data(), values_.data()};
    clear(tile);
    return tile;
  }

 private:
  buffer<float, B> queries_, maxima_, sums_, values_;
};

/// What one worker needs to attend to rows.
template <cpu_backend B>
struct attention_scratch {
  query_tile<B>    tile;
  buffer<float, B> keys;    // panels [key_dim, block_keys] of step_keys keys
  buffer<float, B> values;  // [step_keys, value_dim]
  buffer<float, B> scores;  // [attention_tuning.rows, step_keys]
  buffer<float, B> bias;    // [tokens, step_keys]; weighted r x r only

  void reserve(index_t tokens, index_t group, index_t key_dim, index_t value_dim) {
    tile.reserve(std::int64_t{tokens} * group, key_dim, value_dim);
    keys.reserve(std::int64_t{key_dim} * step_keys<B>);
    values.reserve(std::int64_t{whole_vectors<B>(value_dim)} * step_keys<B>);
    scores.reserve(std::int64_t{attention_tuning<B>.rows} * step_keys<B>);
    bias.reserve(std::int64_t{tokens} * step_keys<B>);
  }
};

/// Query tokens of a tile at most: enough rows to repay the packing of keys, few enough to stay in the cache.
template <cpu_backend B>
CASCADA_INLINE index_t tile_tokens(index_t group) noexcept {
  constexpr index_t rows = 768;
  return group < rows ? rows / group : 1;
}

/// The queries of tokens token(0) .. token(count - 1).
template <cpu_backend B, class Sequence, class Token>
query_rows<B> load_queries(const Sequence& sequence, index_t kv_head, index_t count, const Token& token,
                           attention_scratch<B>& scratch) noexcept {
  const query_rows<B> tile = scratch.tile.begin(count, sequence.group, sequence.q.dim, sequence.kv.value_dim());
  float*              to   = tile.queries;
  for (index_t i = 0; i < count; ++i)
    for (index_t member = 0; member < sequence.group; ++member) {
      const auto* row = sequence.query(token(i), kv_head, member);
      for (index_t k = 0; k < tile.key_dim; ++k) *to++ = to_float(row[k]) * sequence.scale;
    }
  return tile;
}

/// Fills in one token's queries with the mean of `count` tokens' queries.
template <cpu_backend B, class Sequence>
void mean_queries(const Sequence& sequence, index_t kv_head, const index_t* tokens, index_t count,
                  const query_rows<B>& token) noexcept {
  for (index_t member = 0; member < token.group; ++member) {
    float* mean = token.queries + std::int64_t{member} * token.key_dim;
    for (index_t k = 0; k < token.key_dim; ++k) mean[k] = 0;
    for (index_t i = 0; i < count; ++i) {
      const auto* row = sequence.query(tokens[i], kv_head, member);
      for (index_t k = 0; k < token.key_dim; ++k) mean[k] += to_float(row[k]);
    }
    for (index_t k = 0; k < token.key_dim; ++k) mean[k] = mean[k] / static_cast<float>(count) * sequence.scale;
  }
}

/// Attends to rows key(i), value(i), i < count, of which the tile's first token sees `seen`. `weigh(block, first)` may
/// set the bias of the block of keys from `first`.
template <cpu_backend B, class Sequence, class Key, class Value, class Weigh>
void attend_rows(const Sequence& sequence, const query_rows<B>& tile, index_t count, index_t seen, const Key& key,
                 const Value& value, const Weigh& weigh, attention_scratch<B>& scratch) noexcept {
  for (index_t first = 0; first < count; first += step_keys<B>) {
    key_block block = {.keys = scratch.keys.data(), .values = scratch.values.data(), .seen = seen - first};
    block.count     = count - first < step_keys<B> ? count - first : step_keys<B>;
    pack_keys<B>([&](index_t i) { return key(first + i); }, block.count, tile.key_dim, scratch.keys.data());
    pack_values<B>([&](index_t i) { return value(first + i); }, block.count, sequence.kv.value_dim(), tile.value_stride,
                   scratch.values.data());
    weigh(block, first);
    attend_block(tile, block, scratch.scores.data());
  }
}

/// Attends to tokens token(i), i < count, of which the tile's first token sees `seen`.
template <cpu_backend B, class Sequence, class Token>
void attend_tokens(const Sequence& sequence, index_t kv_head, const query_rows<B>& tile, index_t count, index_t seen,
                   const Token& token, attention_scratch<B>& scratch) noexcept {
  attend_rows(
      sequence, tile, count, seen, [&](index_t i) { return sequence.key(token(i), kv_head); },
      [&](index_t i) { return sequence.value(token(i), kv_head); }, [](key_block&, index_t) {}, scratch);
}

/// The results of tokens token(0) .. of a tile.
template <cpu_backend B, class Sequence, class Token>
void write_results(const Sequence& sequence, index_t kv_head, const query_rows<B>& tile, const Token& token) noexcept {
  for (index_t row = 0; row < tile.rows; ++row)
    write_row(tile, row, sequence.kv.value_dim(), sequence.result(token(row / tile.group), kv_head, row % tile.group));
}

}  // namespace cascada::kernel
