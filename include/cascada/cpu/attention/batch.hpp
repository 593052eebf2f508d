#pragma once
// A call of attention: its sequences one after the other, or shared out.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/attention_checks.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/attend_sequence.hpp"
#include "cascada/cpu/attention/dense.hpp"
#include "cascada/cpu/attention/prepare.hpp"
#include "cascada/cpu/attention/sequence.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/representatives.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Sequence s of a call.
template <class Sequence>
CASCADA_INLINE Sequence sequence_of_call(Sequence sequence, const detail::sequence_spans& spans,
                                         std::size_t s) noexcept {
  sequence.base       = spans.keys[s];
  sequence.tokens     = spans.tokens(s);
  sequence.first      = sequence.tokens - spans.queries_of(s);
  sequence.query_base = spans.queries[s] - sequence.first;
  return sequence;
}

/// Dense attention of sequences of few queries each, as a batch that decodes. One of them is too little work to
/// share out, and its heads are better read together: the workers take whole sequences, the longest first.
template <cpu_backend B, class E, class Sequence>
void attend_few_each(const Sequence& call, const attention_options& options, const detail::sequence_spans& spans,
                     attention_workspace<B, E>& space, const B& where, attention_report& report) {
  index_t listed = 0;
  space.order.reserve(static_cast<std::int64_t>(spans.count()));
  for (std::size_t s = 0; s < spans.count(); ++s) {
    if (spans.queries_of(s) == 0) continue;
    const Sequence sequence = sequence_of_call(call, spans, s);
    prepare_workers(sequence, options, sequence.tokens, space, where);
    space.order[listed++] = {sequence.tokens, static_cast<index_t>(s)};
  }
  std::sort(space.order.data(), space.order.data() + listed, [](const auto& a, const auto& b) {
    return a.tokens != b.tokens ? a.tokens > b.tokens : a.number < b.number;
  });
  const auto    workers = space.crew();
  const index_t of_one  = listed < workers ? (workers + listed - 1) / listed : 1;
  const auto    parts   = std::int64_t{of_one < call.kv.kv_heads() ? of_one : call.kv.kv_heads()};
  for_each_task(where, space.crew(), listed * parts, [&](index_t worker, std::int64_t task) {
    const auto       s        = static_cast<std::size_t>(space.order[task / parts].number);
    const Sequence   sequence = sequence_of_call(call, spans, s);
    const tile_tasks tasks    = query_tasks(sequence, sequence.queries(), of_one);
    for (std::int64_t part = task % parts; part < tasks.count(); part += parts)
      attend_dense_tile(sequence, options.causal, tasks, part, space.workers.data()[worker]);
  });
  for (index_t i = 0; i < listed; ++i)
    count_dense<B>(sequence_of_call(call, spans, static_cast<std::size_t>(space.order[i].number)), options.causal,
                   report);
}

/// Every sequence of a call: one after the other, or shared out where each has few queries.
template <cpu_backend B, class E, class Sequence>
void attend_batch(Sequence sequence, const attention_options& options, std::span<const representatives> selections,
                  const detail::sequence_spans& spans, attention_workspace<B, E>& space, const B& where,
                  attention_report& report) {
  const std::size_t sequences = spans.count(), per_sequence = selections.size() / sequences;
  bool              few = detail::kinds_of(options.keys).every_token && sequences > 1;
  for (std::size_t s = 0; few && s < sequences; ++s) few = has_few_queries(sequence_of_call(sequence, spans, s));
  if (few) return attend_few_each(sequence, options, spans, space, where, report);
  for (std::size_t s = 0; s < sequences; ++s) {
    if (spans.queries_of(s) == 0) continue;
    const Sequence one = sequence_of_call(sequence, spans, s);
    prepare(one, options, selections.subspan(s * per_sequence, per_sequence), space, where);
    attend_sequence(one, options, space.heads.data(), space, where, report);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
