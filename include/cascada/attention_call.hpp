#pragma once
// What a call of attention may bring along, or ask for, beside its rows.

#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_options.hpp"
#include "cascada/config.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

/// Everything is optional: attend(q, kv, selections, out, {.query_offsets = ends, .log_sum_exp = lse}).
///
/// query_offsets  n + 1 ascending offsets from 0 to q.tokens: sequence s asks with [offsets[s], offsets[s + 1]).
///                Empty: one sequence
/// key_offsets    the same for kv, from 0 to kv.tokens() or less, which leaves rows at the end unread. Empty: those of
///                the queries; of one sequence, all keys. Padding, on the left or on the right, is a sequence of its
///                own: where it has no queries, its keys are not read either
/// sink_logits    [q.heads], a learned logit for each query head (gpt-oss): the softmax's denominator has one term,
///                exp(sink_logits[h]), more, which belongs to no key and has no value. These are not the sink tokens of
///                the options, which are keys. Scale, cap and slopes do not touch it. It counts in log_sum_exp, and
///                where leaves open by mass. -infinity: none; infinity counts as the largest float; NaN makes the
///                head's rows NaN. Empty: no head has one
/// slopes         [q.heads], ALiBi (arXiv:2108.12409): after the cap, query i's logit for key j gets
///                - slopes[h] |i - j|, by positions in the sequence. For keys == all and near, and where every leaf
///                opens; else `unsupported`: leaves and clusters have no position of their own. Empty: none
/// log_sum_exp    [q.tokens, q.heads], written: the natural logarithm of the sum over what a row attends to of
///                exp(logit), as its softmax has it; -infinity for a row that sees nothing, NaN for a row of NaN.
///                Weights that are rounded to bfloat16 count as rounded, so that merge() gives what one call gives:
///                within 2^-7 of the exact one. A row that copies its representative's output copies this as well
struct attention_call {
  std::span<const index_t> query_offsets = {};
  std::span<const index_t> key_offsets   = {};
  std::span<const float>   sink_logits   = {};
  std::span<const float>   slopes        = {};
  matrix_view<float>       log_sum_exp   = {};
};

/// The same for a sequence that grows, attend.extend(state, q, kv, selections, out, {.log_sum_exp = lse}), whose rows
/// are those of the new tokens.
struct attention_extension {
  std::span<const float> sink_logits = {};
  std::span<const float> slopes      = {};
  matrix_view<float>     log_sum_exp = {};
};

namespace detail {

/// What is said of numbers for each (token, head) that do not fit.
struct sums_sentences {
  const char* rows;
  const char* cols;
  const char* null;
  const char* stride;
  const char* overflow;
};

[[nodiscard]] CASCADA_INLINE constexpr sums_sentences sentences_of_log_sum_exp() noexcept {
  return {"log_sum_exp.rows differs from q.tokens", "log_sum_exp.cols differs from q.heads", "log_sum_exp.data is null",
          "log_sum_exp.stride is less than log_sum_exp.cols", "log_sum_exp.rows times log_sum_exp.stride overflows"};
}

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

/// What a call, or an extension, of q [tokens, heads] asks for and brings along. O(1).
template <class Call>
[[nodiscard]] CASCADA_INLINE constexpr status check_wishes(const Call& call, const attention_options& options,
                                                           index_t tokens, index_t heads) noexcept {
  const auto count = static_cast<std::size_t>(heads);
  if (!call.sink_logits.empty() && call.sink_logits.size() != count)
    return {status::invalid_shape, "sink_logits has not one entry for each of q.heads"};
  if (!call.sink_logits.empty() && !call.sink_logits.data()) return {status::invalid_shape, "sink_logits is null"};
  if (!call.slopes.empty() && call.slopes.size() != count)
    return {status::invalid_shape, "slopes has not one entry for each of q.heads"};
  if (!call.slopes.empty() && !call.slopes.data()) return {status::invalid_shape, "slopes is null"};
  if (!call.slopes.empty() && options.keys == key_set::representatives)
    return {status::unsupported, "slopes is not empty with options.keys == representatives: clusters have no position"};
  if (!call.slopes.empty() && has_leaves(options))
    return {
        status::unsupported,
        "slopes is not empty with options.keys == near_and_far: leaves have no position unless options.open == all"};
  if (is_nothing(call.log_sum_exp)) return status::ok;
  return check_sums(call.log_sum_exp, tokens, heads, sentences_of_log_sum_exp());
}

}  // namespace detail

}  // namespace cascada::inline CASCADA_ABI
