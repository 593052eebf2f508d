#pragma once
// How attention reads keys and values: a concept, and the three layouts engines use.
//
// Rows are strided, of elements, or computed (computed_rows.hpp), from blocks of 8-bit numbers for one. Layouts are of
// elements, or of blocks instead, `dim` counting blocks then; transposed ones of elements only.
//
//   strided     k, v [tokens, kv_heads, dim]                        contiguous rows
//   transposed  v [kv_heads, value_dim, tokens]                     a value's elements are `step` apart
//   paged       k, v [blocks, block_tokens, kv_heads, dim]          a block table maps positions to blocks

#include <concepts>
#include <cstdint>
#include <span>

#include "cascada/computed_rows.hpp"
#include "cascada/config.hpp"
#include "cascada/row_checks.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

/// One key or value: element c lies at data[c * step].
template <class Scalar>
struct strided_row {
  const Scalar* data = nullptr;
  std::int64_t  step = 1;

  CASCADA_INLINE constexpr float operator[](index_t c) const noexcept { return to_float(data[c * step]); }
};

namespace detail {

template <class Row>
inline constexpr bool is_strided = false;
template <row_scalar Scalar>
inline constexpr bool is_strided<strided_row<Scalar>> = true;

}  // namespace detail

/// What a key or a value may be.
template <class Row>
concept kv_row = detail::is_strided<Row> || computed_row<Row>;

/// Keys and values of `tokens()` positions for `kv_heads()` heads: rows of one type each, which may be two types.
/// `check()` says whether the view can be read; attention answers with its status. Rows are asked for by several
/// threads at once.
template <class View>
concept kv_view = requires(const View& view, index_t token, index_t kv_head) {
  { view.tokens() } -> std::same_as<index_t>;
  { view.kv_heads() } -> std::same_as<index_t>;
  { view.key_dim() } -> std::same_as<index_t>;
  { view.value_dim() } -> std::same_as<index_t>;
  { view.key(token, kv_head) } -> kv_row;
  { view.value(token, kv_head) } -> kv_row;
  { view.check() } -> std::same_as<status>;
};

/// Keys and values for queries of `Scalar`: rows of its type; for queries of float, any (ggml keeps caches of float16
/// and of Q8_0 beside them).
template <class View, class Scalar>
concept kv_view_for = kv_view<View> && (std::same_as<Scalar, float> || requires(const View& view, index_t i) {
                        { view.key(i, i) } -> std::same_as<strided_row<Scalar>>;
                        { view.value(i, i) } -> std::same_as<strided_row<Scalar>>;
                      });

/// What layouts hold: elements, or blocks of them.
template <class Stored>
concept row_storage = row_scalar<Stored> || row_block<Stored>;

namespace detail {

// Functions, not constants: objects compiled for different instructions share no symbol.
[[nodiscard]] CASCADA_INLINE constexpr heads_sentences sentences_of_keys() noexcept {
  return CASCADA_HEADS_SENTENCES("kv.keys");
}
[[nodiscard]] CASCADA_INLINE constexpr heads_sentences sentences_of_values() noexcept {
  return CASCADA_HEADS_SENTENCES("kv.values");
}
[[nodiscard]] CASCADA_INLINE constexpr rows_sentences sentences_of_transposed_values() noexcept {
  return {"kv.values is null", "kv.dim_stride is less than kv.keys.tokens",
          "kv.head_stride is less than kv.keys.tokens",
          "kv.dim times kv.dim_stride plus kv.keys.heads times kv.head_stride overflows"};
}

/// Where a position's row lies in a pool of blocks.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t place_in_pool(const index_t* block_table, index_t block_tokens,
                                                                   index_t token) noexcept {
  return block_table[token / block_tokens] * block_tokens + token % block_tokens;
}

/// How what is stored is read: as which rows, and how many elements `dim` of it are.
template <row_storage Stored>
struct rows_of {
  using row = strided_row<Stored>;
  CASCADA_INLINE static constexpr index_t count(index_t dim) noexcept { return dim; }
};
template <row_block Block>
struct rows_of<Block> {
  using row = block_row<Block>;
  CASCADA_INLINE static constexpr index_t count(index_t dim) noexcept {
    return static_cast<index_t>(std::int64_t{dim} * Block::elements);
  }
};

/// As check_heads; and the elements of a row can be counted.
template <row_storage Stored>
[[nodiscard]] CASCADA_INLINE constexpr status check_stored(const heads_view<const Stored>& view,
                                                           const heads_sentences& say, const char* many) noexcept {
  if (const status answer = check_heads(view, say); answer != status::ok) return answer;
  return view.tokens > 0 && rows_of<Stored>::count(view.dim) / rows_of<Stored>::count(1) != view.dim
             ? status{status::too_large, many}
             : status::ok;
}

}  // namespace detail

/// Keys [tokens, kv_heads, key_dim] and values [tokens, kv_heads, value_dim] with contiguous rows. Of blocks:
/// strided_kv<q8_0_block> of packed_heads(blocks, tokens, kv_heads, dim / 32).
template <row_storage Stored>
struct strided_kv {
  using scalar = Stored;
  using rows   = detail::rows_of<Stored>;
  heads_view<const Stored> keys;
  heads_view<const Stored> values;

  CASCADA_INLINE constexpr index_t            tokens() const noexcept { return keys.tokens; }
  CASCADA_INLINE constexpr index_t            kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE constexpr index_t            key_dim() const noexcept { return rows::count(keys.dim); }
  CASCADA_INLINE constexpr index_t            value_dim() const noexcept { return rows::count(values.dim); }
  CASCADA_INLINE constexpr typename rows::row key(index_t token, index_t kv_head) const noexcept {
    return {keys.row(token, kv_head)};
  }
  CASCADA_INLINE constexpr typename rows::row value(index_t token, index_t kv_head) const noexcept {
    return {values.row(token, kv_head)};
  }
  CASCADA_INLINE constexpr status check() const noexcept {
    if (const status answer = detail::check_stored(keys, detail::sentences_of_keys(),
                                                   "kv.keys.dim times the elements of a block overflows");
        answer != status::ok)
      return answer;
    if (const status answer = detail::check_stored(values, detail::sentences_of_values(),
                                                   "kv.values.dim times the elements of a block overflows");
        answer != status::ok)
      return answer;
    if (values.tokens != keys.tokens) return {status::invalid_shape, "kv.values.tokens differs from kv.keys.tokens"};
    if (values.heads != keys.heads) return {status::invalid_shape, "kv.values.heads differs from kv.keys.heads"};
    return status::ok;
  }
};

/// As strided_kv, with values [kv_heads, dim, tokens] transposed, dim = value_dim: element (t, h, c) of v lies at
/// values + h * head_stride + c * dim_stride + t (dim_stride >= tokens).
template <row_scalar Scalar>
struct transposed_value_kv {
  using scalar = Scalar;
  heads_view<const Scalar> keys;
  const Scalar*            values      = nullptr;
  index_t                  dim         = 0;
  std::int64_t             head_stride = 0;
  std::int64_t             dim_stride  = 0;

  CASCADA_INLINE constexpr index_t             tokens() const noexcept { return keys.tokens; }
  CASCADA_INLINE constexpr index_t             kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE constexpr index_t             key_dim() const noexcept { return keys.dim; }
  CASCADA_INLINE constexpr index_t             value_dim() const noexcept { return dim; }
  CASCADA_INLINE constexpr strided_row<Scalar> key(index_t token, index_t kv_head) const noexcept {
    return {keys.row(token, kv_head), 1};
  }
  CASCADA_INLINE constexpr strided_row<Scalar> value(index_t token, index_t kv_head) const noexcept {
    return {values + kv_head * head_stride + token, dim_stride};
  }
  CASCADA_INLINE constexpr status check() const noexcept {
    if (const status answer = detail::check_heads(keys, detail::sentences_of_keys()); answer != status::ok)
      return answer;
    if (keys.tokens == 0) return status::ok;
    if (dim < 1) return {status::invalid_shape, "kv.dim is less than 1"};
    // One head of V is a [dim, tokens] matrix: the same rules as for rows of `tokens` elements.
    return detail::check_rows(heads_view<const Scalar>{values, dim, keys.heads, keys.tokens, dim_stride, head_stride},
                              detail::sentences_of_transposed_values());
  }
};

/// Keys and values of `length` tokens in blocks of `block_tokens` positions: position t lies in block
/// `block_table[t / block_tokens]` at row t % block_tokens. `keys` and `values` view the whole pool as
/// [blocks * block_tokens, kv_heads, dim]. Every call on the CPU checks the blocks of the table, O(length /
/// block_tokens); on gfx942 the table is in device memory, and not checked.
template <row_storage Stored>
struct paged_kv {
  using scalar = Stored;
  using rows   = detail::rows_of<Stored>;
  heads_view<const Stored> keys;
  heads_view<const Stored> values;
  std::span<const index_t> block_table;
  index_t                  block_tokens = 0;
  index_t                  length       = 0;

  CASCADA_INLINE constexpr index_t            tokens() const noexcept { return length; }
  CASCADA_INLINE constexpr index_t            kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE constexpr index_t            key_dim() const noexcept { return rows::count(keys.dim); }
  CASCADA_INLINE constexpr index_t            value_dim() const noexcept { return rows::count(values.dim); }
  CASCADA_INLINE constexpr typename rows::row key(index_t token, index_t kv_head) const noexcept {
    return {keys.row(place_of(token), kv_head)};
  }
  CASCADA_INLINE constexpr typename rows::row value(index_t token, index_t kv_head) const noexcept {
    return {values.row(place_of(token), kv_head)};
  }
  /// But for what the table says.
  CASCADA_INLINE constexpr status check_pool() const noexcept {
    if (const status answer = strided_kv<Stored>{keys, values}.check(); answer != status::ok) return answer;
    if (length < 0) return {status::invalid_shape, "kv.length is negative"};
    if (block_tokens < 1) return {status::invalid_shape, "kv.block_tokens is less than 1"};
    const auto blocks = (std::int64_t{length} + block_tokens - 1) / block_tokens;
    if (static_cast<std::int64_t>(block_table.size()) < blocks)
      return {status::invalid_shape, "kv.block_table has fewer blocks than kv.length tokens fill"};
    if (blocks > 0 && !block_table.data()) return {status::invalid_shape, "kv.block_table is null"};
    return status::ok;
  }
  CASCADA_INLINE constexpr status check() const noexcept {
    if (const status answer = check_pool(); answer != status::ok) return answer;
    const auto blocks = (std::int64_t{length} + block_tokens - 1) / block_tokens;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const auto block = std::int64_t{block_table.data()[b]};
      if (block < 0) return {status::invalid_shape, "kv.block_table has a negative block"};
      if ((block + 1) * block_tokens > keys.tokens)
        return {status::invalid_shape, "kv.block_table has a block that does not lie in kv.keys.tokens"};
    }
    return status::ok;
  }

 private:
  /// Of a token's row in the pool.
  CASCADA_INLINE constexpr index_t place_of(index_t token) const noexcept {
    return detail::place_in_pool(block_table.data(), block_tokens, token);
  }
};

}  // namespace cascada::inline CASCADA_ABI
