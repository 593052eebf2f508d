#pragma once
// One sequence, by the mode that the options ask for.

#include "cascada/attention_options.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/compressed.hpp"
#include "cascada/cpu/attention/dense.hpp"
#include "cascada/cpu/attention/near_far.hpp"
#include "cascada/cpu/attention/workspace.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The sequence's memory is prepared (prepare.hpp). `heads`: of each KV head, the workspace's or those of a sequence
/// that grows; of modes without leaves nothing is read there.
template <cpu_backend B, class E, class Sequence>
void attend_sequence(const Sequence& sequence, const attention_options& options, kv_head_state<B, E>* heads,
                     attention_workspace<B, E>& space, const B& where, attention_report& report) {
  switch (options.keys) {
    case key_set::all: attend_dense(sequence, options.causal, space, where, report); break;
    case key_set::representatives: attend_representatives(sequence, options, heads, space, where, report); break;
    case key_set::near:
    case key_set::near_and_far: attend_chunks(sequence, options, heads, space, where, report); break;
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
