#pragma once
// How attention reads keys and values: a concept, and the three layouts engines use.
//
//   strided     k, v [tokens, kv_heads, dim]                        contiguous rows
//   transposed  v [kv_heads, value_dim, tokens]                     a value's elements are `step` apart
//   paged       k, v [blocks, block_tokens, kv_heads, dim]          a block table maps positions to blocks

#include <concepts>
#include <cstdint>
#include <span>

#include "cascada/config.hpp"
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

/// Keys and values of `tokens()` positions for `kv_heads()` heads. `check()` says whether the view can be read.
template <class View>
concept kv_view = row_scalar<typename View::scalar> && requires(const View& view, index_t token, index_t kv_head) {
  { view.tokens() } -> std::same_as<index_t>;
  { view.kv_heads() } -> std::same_as<index_t>;
  { view.key_dim() } -> std::same_as<index_t>;
  { view.value_dim() } -> std::same_as<index_t>;
  { view.key(token, kv_head) } -> std::same_as<strided_row<typename View::scalar>>;
  { view.value(token, kv_head) } -> std::same_as<strided_row<typename View::scalar>>;
  { view.check() } -> std::same_as<status>;
};

namespace detail {

template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr status check_heads(const heads_view<Scalar>& view) noexcept {
  if (view.tokens < 0 || view.heads < 1 || view.dim < 1) return status::invalid_shape;
  if (view.tokens == 0) return status::ok;
  if (!view.data) return status::invalid_shape;
  if (view.tokens > 1 && view.token_stride < view.dim) return status::invalid_shape;
  if (view.heads > 1 && view.head_stride < view.dim) return status::invalid_shape;
  std::int64_t token_extent = 0, head_extent = 0, extent = 0;
  if (__builtin_mul_overflow(std::int64_t{view.tokens}, view.token_stride, &token_extent) ||
      __builtin_mul_overflow(std::int64_t{view.heads}, view.head_stride, &head_extent) ||
      __builtin_add_overflow(token_extent, head_extent, &extent) ||
      __builtin_mul_overflow(extent, static_cast<std::int64_t>(sizeof(Scalar)), &extent))
    return status::too_large;
  return status::ok;
}

}  // namespace detail

/// Keys [tokens, kv_heads, key_dim] and values [tokens, kv_heads, value_dim] with contiguous rows.
template <row_scalar Scalar>
struct strided_kv {
  using scalar = Scalar;
  heads_view<const Scalar> keys;
  heads_view<const Scalar> values;

  CASCADA_INLINE constexpr index_t tokens() const noexcept { return keys.tokens; }
  CASCADA_INLINE constexpr index_t kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE constexpr index_t key_dim() const noexcept { return keys.dim; }
  CASCADA_INLINE constexpr index_t value_dim() const noexcept { return values.dim; }
  CASCADA_INLINE constexpr strided_row<Scalar> key(index_t token, index_t kv_head) const noexcept {
    return {keys.row(token, kv_head), 1};
  }
  CASCADA_INLINE constexpr strided_row<Scalar> value(index_t token, index_t kv_head) const noexcept {
    return {values.row(token, kv_head), 1};
  }
  CASCADA_INLINE constexpr status check() const noexcept {
    if (keys.tokens != values.tokens || keys.heads != values.heads) return status::invalid_shape;
    const status of_keys = detail::check_heads(keys);
    return of_keys == status::ok ? detail::check_heads(values) : of_keys;
  }
};

/// As strided_kv, with values transposed: element (t, h, c) of v lies at
/// values + h * head_stride + c * dim_stride + t (dim_stride >= tokens).
template <row_scalar Scalar>
struct transposed_value_kv {
  using scalar = Scalar;
  heads_view<const Scalar> keys;
  const Scalar*            values      = nullptr;
  index_t                  dim         = 0;
  std::int64_t             head_stride = 0;
  std::int64_t             dim_stride  = 0;

  CASCADA_INLINE constexpr index_t tokens() const noexcept { return keys.tokens; }
  CASCADA_INLINE constexpr index_t kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE constexpr index_t key_dim() const noexcept { return keys.dim; }
  CASCADA_INLINE constexpr index_t value_dim() const noexcept { return dim; }
  CASCADA_INLINE constexpr strided_row<Scalar> key(index_t token, index_t kv_head) const noexcept {
    return {keys.row(token, kv_head), 1};
  }
  CASCADA_INLINE constexpr strided_row<Scalar> value(index_t token, index_t kv_head) const noexcept {
    return {values + kv_head * head_stride + token, dim_stride};
  }
  CASCADA_INLINE constexpr status check() const noexcept {
    const status of_keys = detail::check_heads(keys);
    if (of_keys != status::ok) return of_keys;
    // One head of V is a [dim, tokens] matrix: the same rules as for rows of `tokens` elements.
    if (dim < 1) return status::invalid_shape;
    if (keys.tokens == 0) return status::ok;
    return detail::check_heads(heads_view<const Scalar>{values, dim, keys.heads, keys.tokens, dim_stride, head_stride});
  }
};

/// Keys and values in blocks of `block_tokens` positions: position t lies in block `block_table[t / block_tokens]` at
/// row t % block_tokens. `keys` and `values` view the whole pool as [blocks * block_tokens, kv_heads, dim].
template <row_scalar Scalar>
struct paged_kv {
  using scalar = Scalar;
  heads_view<const Scalar> keys;
  heads_view<const Scalar> values;
  std::span<const index_t> block_table;
  index_t                  block_tokens = 0;
  index_t                  length       = 0;

  CASCADA_INLINE constexpr index_t tokens() const noexcept { return length; }
  CASCADA_INLINE constexpr index_t kv_heads() const noexcept { return keys.heads; }
  CASCADA_INLINE constexpr index_t key_dim() const noexcept { return keys.dim; }
  CASCADA_INLINE constexpr index_t value_dim() const noexcept { return values.dim; }
  CASCADA_INLINE constexpr strided_row<Scalar> key(index_t token, index_t kv_head) const noexcept {
    return {keys.row(slot(token), kv_head), 1};
  }
  CASCADA_INLINE constexpr strided_row<Scalar> value(index_t token, index_t kv_head) const noexcept {
    return {values.row(slot(token), kv_head), 1};
  }
  CASCADA_INLINE constexpr status check() const noexcept {
    const status of_pool = strided_kv<Scalar>{keys, values}.check();
    if (of_pool != status::ok) return of_pool;
    if (length < 0 || block_tokens < 1) return status::invalid_shape;
    const auto blocks = (std::int64_t{length} + block_tokens - 1) / block_tokens;
    if (static_cast<std::int64_t>(block_table.size()) < blocks) return status::invalid_shape;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const auto block = std::int64_t{block_table.data()[b]};
      if (block < 0 || (block + 1) * block_tokens > keys.tokens) return status::invalid_shape;
    }
    return status::ok;
  }

 private:
  CASCADA_INLINE constexpr index_t slot(index_t token) const noexcept {
    return block_table.data()[token / block_tokens] * block_tokens + token % block_tokens;
  }
};

}  // namespace cascada::inline CASCADA_ABI
