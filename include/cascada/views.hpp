#pragma once
// Rows that belong to someone else: matrices, and buffers of heads.

#include <cstdint>
#include <type_traits>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

/// Row-major matrix [rows, cols] with unit column stride. `stride` is the distance between row starts in elements
/// (>= cols), so one head of a [tokens, heads, head_dim] buffer is a view, not a copy.
template <class Scalar>
struct matrix_view {
  Scalar*      data   = nullptr;
  index_t      rows   = 0;
  index_t      cols   = 0;
  std::int64_t stride = 0;

  CASCADA_HOST_DEVICE CASCADA_INLINE constexpr Scalar* row(index_t i) const noexcept { return data + i * stride; }

  CASCADA_HOST_DEVICE CASCADA_INLINE constexpr operator matrix_view<const Scalar>() const noexcept
    requires(!std::is_const_v<Scalar>)
  {
    return {data, rows, cols, stride};
  }
};

namespace detail {

/// Whether a matrix spans more bytes than 64 bits count.
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr bool overflows(const matrix_view<Scalar>& x) noexcept {
  std::int64_t extent = 0;
  return __builtin_mul_overflow(std::int64_t{x.rows}, x.stride, &extent) ||
         __builtin_mul_overflow(extent, static_cast<std::int64_t>(sizeof(Scalar)), &extent);
}

}  // namespace detail

/// Heads of many tokens, [tokens, heads, dim] in any order of the first two: element (t, h, c) lies at
/// data + t * token_stride + h * head_stride + c. Rows do not overlap (both strides >= dim where used), but
/// of rows that are only read, all heads may be one (head_stride 0).
template <class Scalar>
struct heads_view {
  Scalar*      data         = nullptr;
  index_t      tokens       = 0;
  index_t      heads        = 0;
  index_t      dim          = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride  = 0;

  CASCADA_HOST_DEVICE CASCADA_INLINE constexpr Scalar* row(index_t token, index_t head) const noexcept {
    return data + token * token_stride + head * head_stride;
  }

  CASCADA_HOST_DEVICE CASCADA_INLINE constexpr operator heads_view<const Scalar>() const noexcept
    requires(!std::is_const_v<Scalar>)
  {
    return {data, tokens, heads, dim, token_stride, head_stride};
  }
};

/// A packed [tokens, heads, dim] buffer, the layout most engines use.
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr heads_view<Scalar> packed_heads(Scalar* data, index_t tokens, index_t heads,
                                                                       index_t dim) noexcept {
  return {data, tokens, heads, dim, std::int64_t{heads} * dim, dim};
}

}  // namespace cascada::inline CASCADA_ABI
