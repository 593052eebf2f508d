#pragma once
// What a call of attention may bring along, or ask for, beside its rows.

#include <span>

#include "cascada/config.hpp"
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

}  // namespace cascada::inline CASCADA_ABI
