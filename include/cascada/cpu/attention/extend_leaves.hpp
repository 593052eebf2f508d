#pragma once
// A KV head's chains and leaves, brought up to where its far field ends.

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/workspace.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Brings a KV head's chains up to tokens [0, end): leaves are not touched.
template <cpu_backend B, class E, class Sequence>
void extend_chains(const Sequence& sequence, leaf_formation formation, index_t kv_head, index_t end,
                   attention_workspace<B, E>& space) noexcept {
  auto& own = space.scratch_of(kv_head);
  if (formation == leaf_formation::by_keys)
    own.chains.extend(own.lists.slots.data(), end, [&](index_t t) { return sequence.key(t, kv_head); });
}

/// Brings a KV head's leaves up to tokens [0, end).
template <cpu_backend B, class E, class Sequence>
void extend_leaves(const Sequence& sequence, leaf_formation formation, index_t kv_head, index_t end,
                   attention_workspace<B, E>& space) noexcept {
  auto&      own   = space.scratch_of(kv_head);
  const auto key   = [&](index_t t) { return sequence.key(t, kv_head); };
  const auto value = [&](index_t t) { return sequence.value(t, kv_head); };
  extend_chains(sequence, formation, kv_head, end, space);
  const bool by_keys = formation == leaf_formation::by_keys;
  space.head(kv_head).leaves.extend(by_keys ? own.chains.chain_of() : own.lists.slots.data(), end, key, value,
                                    own.sums);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
