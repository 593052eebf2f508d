#pragma once
// Representatives' results, copied to the tokens that they stand for.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention/tasks.hpp"
#include "cascada/cpu/attention/workspace.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Every token that is no representative gets the output of its own.
template <cpu_backend B, class E, class Sequence>
void copy_results(const Sequence& sequence, attention_workspace<B, E>& space, const B& where) {
  const tile_tasks tasks = {.from = 0, .to = sequence.tokens, .step = 64, .kv_heads = sequence.kv.kv_heads()};
  for_each_task(where, space.crew(), tasks.count(), [&](index_t, std::int64_t task) {
    const index_t   kv_head = tasks.kv_head(task), end = tasks.end(task);
    const clusters& lists = space.scratch_of(kv_head).lists;
    for (index_t t = tasks.begin(task); t < end; ++t) {
      const index_t rep = lists.representative(lists.cluster_of.data()[t]);
      for (index_t head_of_group = 0; rep != t && head_of_group < sequence.group; ++head_of_group) {
        const auto* from = sequence.result(rep, kv_head, head_of_group);
        auto*       to   = sequence.result(t, kv_head, head_of_group);
        for (index_t c = 0; c < sequence.kv.value_dim(); ++c) to[c] = from[c];
        if (float* of_token = sequence.log_sum_exp_of(t, kv_head, head_of_group))
          *of_token = *sequence.log_sum_exp_of(rep, kv_head, head_of_group);
      }
    }
  });
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
