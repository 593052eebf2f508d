#pragma once
// Attention of every token to all tokens, or to those in its sliding window.

#include <cstdint>

#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/load_queries.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/walk.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/cpu/attention/write_results.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// A task of dense attention.
template <cpu_backend B, class E, class Sequence>
void attend_dense_tile(const Sequence& sequence, bool causal, const tile_tasks& tasks, std::int64_t task,
                       attention_scratch<B, E>& scratch) noexcept {
  const index_t T = sequence.tokens, kv_head = tasks.kv_head(task), heads = tasks.heads(task);
  const index_t first = tasks.begin(task), end = tasks.end(task), count = end - first;
  const auto    token = [&](index_t i) { return first + i; };
  const auto    tile  = load_queries(sequence, kv_head, heads, count, token, scratch.tile);
  attend_tokens(
      sequence, kv_head, heads, tile, first, causal ? end : T, causal ? first + 1 : T, [](index_t i) { return i; },
      scratch);
  for (index_t h = 0; h < heads; ++h) write_results(sequence, kv_head + h, tile.part(h * count, count), token);
}

/// What the rows of dense attention read.
template <cpu_backend B, class Sequence>
void count_dense(const Sequence& sequence, bool causal, attention_report& report) noexcept {
  const index_t      T        = sequence.tokens;
  const std::int64_t kv_heads = sequence.kv.kv_heads(), queries = sequence.queries(),
                     window = sequence.terms.sliding_window;
  const auto         up_to  = [](std::int64_t t) { return t * (t + 1) / 2; };
  const auto         passed = [&](std::int64_t t) { return window > 0 && t > window ? up_to(t - window) : 0; };
  const std::int64_t keys   = causal ? up_to(T) - up_to(sequence.first) : queries * T;
  report.rows += kv_heads * queries;
  report.dense_keys += kv_heads * keys;
  report.near_keys += kv_heads * (keys - passed(T) + passed(sequence.first));
}

/// Every query attends to tokens [0, t], or to all T: O(queries T d); or to those in its sliding window.
template <cpu_backend B, class E, class Sequence>
void attend_dense(const Sequence& sequence, bool causal, attention_workspace<B, E>& space, const B& where,
                  attention_report& report) {
  const index_t    queries = sequence.queries();
  const index_t    step    = has_few_queries(sequence) ? queries : task_tokens<B, E>(sequence, queries, space.crew());
  const tile_tasks tasks   = query_tasks(sequence, step, space.crew());
  for_each_task(where, space.crew(), tasks.count(), [&](index_t worker, std::int64_t task) {
    attend_dense_tile(sequence, causal, tasks, task, space.workers.data()[worker]);
  });
  count_dense<B>(sequence, causal, report);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
