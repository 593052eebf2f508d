#pragma once
// Whether rows of heads, and numbers for each of them, can be read: shapes, strides and sizes, each fault with a
// sentence of the argument's own.

#include <cstdint>
#include <type_traits>

#include "cascada/config.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

// Sentences in the name of an argument, a text. Macros, since texts are joined before anything is compiled.
#define CASCADA_HEADS_SENTENCES(name)                                     \
  {name ".tokens is negative",                                            \
   name ".heads is less than 1",                                          \
   name ".dim is less than 1",                                            \
   {name ".data is null", name ".token_stride is less than " name ".dim", \
    name ".head_stride is less than " name ".dim",                        \
    name ".tokens times " name ".token_stride plus " name ".heads times " name ".head_stride overflows"}}
#define CASCADA_SUMS_SENTENCES(name, rows_of)                                                                       \
  {name ".rows differs from " rows_of ".tokens", name ".cols differs from " rows_of ".heads", name ".data is null", \
   name ".stride is less than " name ".cols", name ".rows times " name ".stride overflows"}

namespace cascada::inline CASCADA_ABI::detail {

/// What is said of rows that cannot be read, in the name of the argument.
struct rows_sentences {
  const char* null;
  const char* token_stride;
  const char* head_stride;
  const char* overflow;
};

/// The same of a view with its sizes.
struct heads_sentences {
  const char*    tokens;
  const char*    heads;
  const char*    dim;
  rows_sentences rows;
};

/// Rows of sizes from 1. Heads of rows that are only read may all be one: head_stride 0. O(1).
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr status check_rows(const heads_view<Scalar>& view,
                                                         const rows_sentences&     say) noexcept {
  if (!view.data) return {status::invalid_shape, say.null};
  if (view.tokens > 1 && view.token_stride < view.dim) return {status::invalid_shape, say.token_stride};
  const bool shared = std::is_const_v<Scalar> && view.head_stride == 0;
  if (view.heads > 1 && view.head_stride < view.dim && !shared) return {status::invalid_shape, say.head_stride};
  std::int64_t token_extent = 0, head_extent = 0, extent = 0;
  if (__builtin_mul_overflow(std::int64_t{view.tokens}, view.token_stride, &token_extent) ||
      __builtin_mul_overflow(std::int64_t{view.heads}, view.head_stride, &head_extent) ||
      __builtin_add_overflow(token_extent, head_extent, &extent) ||
      __builtin_mul_overflow(extent, static_cast<std::int64_t>(sizeof(Scalar)), &extent))
    return {status::too_large, say.overflow};
  return status::ok;
}

/// No tokens are fine, whatever their columns and data. O(1).
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr status check_heads(const heads_view<Scalar>& view,
                                                          const heads_sentences&    say) noexcept {
  if (view.tokens < 0) return {status::invalid_shape, say.tokens};
  if (view.heads < 1) return {status::invalid_shape, say.heads};
  if (view.tokens == 0) return status::ok;
  if (view.dim < 1) return {status::invalid_shape, say.dim};
  return check_rows(view, say.rows);
}

/// What is said of numbers for each (token, head) that do not fit.
struct sums_sentences {
  const char* rows;
  const char* cols;
  const char* null;
  const char* stride;
  const char* overflow;
};

/// A number for each (token, head). O(1).
template <class Number>
[[nodiscard]] CASCADA_INLINE constexpr status check_sums(const matrix_view<Number>& sums, index_t tokens, index_t heads,
                                                         const sums_sentences& say) noexcept {
  if (sums.rows != tokens) return {status::invalid_shape, say.rows};
  if (sums.cols != heads) return {status::invalid_shape, say.cols};
  if (sums.rows == 0) return status::ok;
  if (!sums.data) return {status::invalid_shape, say.null};
  if (sums.stride < sums.cols) return {status::invalid_shape, say.stride};
  return overflows(sums) ? status{status::too_large, say.overflow} : status::ok;
}

/// A view that nobody filled in.
[[nodiscard]] CASCADA_INLINE constexpr bool is_nothing(const matrix_view<float>& view) noexcept {
  return !view.data && view.rows == 0 && view.cols == 0;
}

}  // namespace cascada::inline CASCADA_ABI::detail
