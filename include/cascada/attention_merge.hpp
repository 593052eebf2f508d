#pragma once
// merge: attention to two sets of keys as attention to both: a prompt in parts, keys on several machines. Contract and
// checks.

#include <type_traits>

#include "cascada/attention_checks.hpp"
#include "cascada/backend.hpp"
#include "cascada/row_checks.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

namespace detail {

[[nodiscard]] CASCADA_INLINE constexpr heads_sentences sentences_of_first() noexcept {
  return CASCADA_HEADS_SENTENCES("first");
}
[[nodiscard]] CASCADA_INLINE constexpr heads_sentences sentences_of_second() noexcept {
  return CASCADA_HEADS_SENTENCES("second");
}
[[nodiscard]] CASCADA_INLINE constexpr sums_sentences sentences_of_first_sums() noexcept {
  return CASCADA_SUMS_SENTENCES("first_lse", "first");
}
[[nodiscard]] CASCADA_INLINE constexpr sums_sentences sentences_of_second_sums() noexcept {
  return CASCADA_SUMS_SENTENCES("second_lse", "first");
}
[[nodiscard]] CASCADA_INLINE constexpr sums_sentences sentences_of_merged_sums() noexcept {
  return CASCADA_SUMS_SENTENCES("log_sum_exp", "first");
}

/// Rows of the shape of `first`.
template <class First, class Other>
[[nodiscard]] CASCADA_INLINE constexpr status check_alike(const heads_view<First>& first,
                                                          const heads_view<Other>& other, const char* tokens,
                                                          const char* heads, const char* dim) noexcept {
  if (other.tokens != first.tokens) return {status::invalid_shape, tokens};
  if (other.heads != first.heads) return {status::invalid_shape, heads};
  if (first.tokens > 0 && other.dim != first.dim) return {status::invalid_shape, dim};
  return status::ok;
}

/// What any backend asks of the arguments, in this order. O(1).
template <backend B, class First, class Second, row_scalar Out>
[[nodiscard]] status check_merge(const heads_view<First>& first, const matrix_view<const float>& first_lse,
                                 const heads_view<Second>& second, const matrix_view<const float>& second_lse,
                                 const heads_view<Out>& out, const matrix_view<float>& log_sum_exp) noexcept {
  if (const status answer = check_heads(first, sentences_of_first()); answer != status::ok) return answer;
  if (const status answer = check_heads(second, sentences_of_second()); answer != status::ok) return answer;
  if (const status answer = check_heads(out, sentences_of_out()); answer != status::ok) return answer;
  if (const status answer = check_alike(first, second, "second.tokens differs from first.tokens",
                                        "second.heads differs from first.heads", "second.dim differs from first.dim");
      answer != status::ok)
    return answer;
  if (const status answer = check_alike(first, out, "out.tokens differs from first.tokens",
                                        "out.heads differs from first.heads", "out.dim differs from first.dim");
      answer != status::ok)
    return answer;
  if (const status answer = check_sums(first_lse, first.tokens, first.heads, sentences_of_first_sums());
      answer != status::ok)
    return answer;
  if (const status answer = check_sums(second_lse, first.tokens, first.heads, sentences_of_second_sums());
      answer != status::ok)
    return answer;
  if (is_nothing(log_sum_exp)) return status::ok;  // not wanted
  return check_sums(log_sum_exp, first.tokens, first.heads, sentences_of_merged_sums());
}

}  // namespace detail

/// Results of the same queries for two sets of keys that share none, as those for all of these keys: rows weigh
/// exp(log-sum-exp). A row that saw nothing on one side (-infinity there) is the other side's, one that saw nothing on
/// either side is zero; NaN stays. Order matters only in the last digits, so any number of sets merge in any order.
/// Needs no attention object: the parts may come from other processes or other machines.
///
/// merge(first, first_lse, second, second_lse, out, log_sum_exp)
/// merge(first, first_lse, second, second_lse, out, log_sum_exp, where)
///
/// The second is gfx942's, for rows and sums in device memory, on the stream of `where`, which nobody waits for.
///
/// first, second           [tokens, heads, dim], float, bfloat16 or float16: `out` of attention
/// first_lse, second_lse   [tokens, heads], natural logarithms: `log_sum_exp` of attention
/// out                     [tokens, heads, dim], may be first or second; a new buffer overlaps neither
/// log_sum_exp             [tokens, heads], may be first_lse or second_lse; an empty view: not wanted
///
/// Processes that hold a part of the tokens each get dense attention and windows that way: a part's keys go round, or
/// as many of them as a window reaches back (the project's test `ranks` does it under MPI). Near + far would need more:
/// the representatives' rows from process to process, in token order; each process's leaves apart from the others'
/// (other leaves than one process has where a chain crosses from part to part); and, before a leaf opens, the
/// log-sum-exp of near keys and leaves over all processes, which is one more exchange of [tokens, heads] numbers amid a
/// call. No call stops there. Processes that hold whole KV heads with their query heads exchange nothing, in any mode.
///
/// A sink logit (attention_call) belongs to one of the sets only. `invalid_shape`, `too_large`: an argument, in a
/// sentence of its own; nothing is written. O(tokens heads dim), no allocation. The formula is that of FlashAttention's
/// splits (arXiv:2205.14135, section 3.1). On gfx942 the shares' powers are floats: a row is the CPU's within 2^-21
/// times |first| + |second|, a log-sum-exp within its last digit and 2^-21, and where one side saw nothing, all is bit
/// for bit.
template <cpu_backend B = default_backend, class First, class Second, row_scalar Out>
  requires row_scalar<std::remove_const_t<First>> && row_scalar<std::remove_const_t<Second>>
[[nodiscard]] status merge(heads_view<First> first, matrix_view<const float> first_lse, heads_view<Second> second,
                           matrix_view<const float> second_lse, heads_view<Out> out,
                           matrix_view<float> log_sum_exp = {}) noexcept;

/// The same on gfx942.
template <gfx942_backend B, class First, class Second, row_scalar Out>
  requires row_scalar<std::remove_const_t<First>> && row_scalar<std::remove_const_t<Second>>
[[nodiscard]] status merge(heads_view<First> first, matrix_view<const float> first_lse, heads_view<Second> second,
                           matrix_view<const float> second_lse, heads_view<Out> out,
                           matrix_view<float> log_sum_exp = {}, B where = {}) noexcept;

}  // namespace cascada::inline CASCADA_ABI
