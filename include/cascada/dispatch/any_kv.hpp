#pragma once
// Keys and values in any layout of kv_view.hpp, as one type: a level has one kernel for all of them.

#include <concepts>
#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::dispatch::detail {

/// What rows are made of.
enum class row_type : std::uint8_t { of_float, of_bfloat16, of_float16 };

template <row_scalar Scalar>
inline constexpr row_type row_type_of = std::same_as<Scalar, float>      ? row_type::of_float
                                        : std::same_as<Scalar, bfloat16> ? row_type::of_bfloat16
                                                                         : row_type::of_float16;

/// Rows of heads: element c of the row (t, h) lies `t token_stride + h head_stride + c step` elements from `data`.
struct any_rows {
  const void*  data         = nullptr;
  index_t      dim          = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride  = 0;
  std::int64_t step         = 1;
};

/// Without a block table, position t is row t.
struct any_kv {
  row_type       type         = row_type::of_float;
  any_rows       keys         = {};
  any_rows       values       = {};
  index_t        tokens       = 0;
  index_t        kv_heads     = 0;
  index_t        block_tokens = 1;
  const index_t* block_table  = nullptr;
  status         answer       = status::ok;  // what the view's own check() says
};

template <class Scalar>
[[nodiscard]] CASCADA_INLINE any_rows rows_of(const heads_view<const Scalar>& rows) noexcept {
  return {rows.data, rows.dim, rows.token_stride, rows.head_stride, 1};
}

template <row_scalar Scalar>
[[nodiscard]] CASCADA_INLINE any_kv any_layout(const strided_kv<Scalar>& kv) noexcept {
  return {.type     = row_type_of<Scalar>,
          .keys     = rows_of(kv.keys),
          .values   = rows_of(kv.values),
          .tokens   = kv.tokens(),
          .kv_heads = kv.kv_heads(),
          .answer   = kv.check()};
}

template <row_scalar Scalar>
[[nodiscard]] CASCADA_INLINE any_kv any_layout(const transposed_value_kv<Scalar>& kv) noexcept {
  return {.type     = row_type_of<Scalar>,
          .keys     = rows_of(kv.keys),
          .values   = {kv.values, kv.dim, 1, kv.head_stride, kv.dim_stride},
          .tokens   = kv.tokens(),
          .kv_heads = kv.kv_heads(),
          .answer   = kv.check()};
}

template <row_scalar Scalar>
[[nodiscard]] CASCADA_INLINE any_kv any_layout(const paged_kv<Scalar>& kv) noexcept {
  return {.type         = row_type_of<Scalar>,
          .keys         = rows_of(kv.keys),
          .values       = rows_of(kv.values),
          .tokens       = kv.tokens(),
          .kv_heads     = kv.kv_heads(),
          .block_tokens = kv.block_tokens,
          .block_table  = kv.block_table.data(),
          .answer       = kv.check()};
}

/// A view in one of the layouts above, for queries of `Scalar`.
template <class View, class Scalar>
concept kv_in_layout = kv_view_for<View, Scalar> && requires(const View& view) { any_layout(view); };

/// The kv_view that kernels read, once the type is known.
template <row_scalar Scalar>
struct typed_kv {
  any_kv all;

  CASCADA_INLINE index_t tokens() const noexcept { return all.tokens; }
  CASCADA_INLINE index_t kv_heads() const noexcept { return all.kv_heads; }
  CASCADA_INLINE index_t key_dim() const noexcept { return all.keys.dim; }
  CASCADA_INLINE index_t value_dim() const noexcept { return all.values.dim; }
  CASCADA_INLINE strided_row<Scalar> key(index_t token, index_t kv_head) const noexcept {
    return row(all.keys, token, kv_head);
  }
  CASCADA_INLINE strided_row<Scalar> value(index_t token, index_t kv_head) const noexcept {
    return row(all.values, token, kv_head);
  }
  CASCADA_INLINE status check() const noexcept { return all.answer; }

 private:
  CASCADA_INLINE strided_row<Scalar> row(const any_rows& rows, index_t token, index_t kv_head) const noexcept {
    const index_t at =
        !all.block_table ? token : cascada::detail::place_in_pool(all.block_table, all.block_tokens, token);
    return {static_cast<const Scalar*>(rows.data) + at * rows.token_stride + kv_head * rows.head_stride, rows.step};
  }
};

}  // namespace cascada::inline CASCADA_ABI::dispatch::detail
