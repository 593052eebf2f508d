#pragma once
// A KV head's chains and leaves, brought up to where its far field ends.

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/kv_head.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Brings a KV head's chains up to tokens [0, end). Nothing else is touched: tiles that read its leaves may be worked
/// on meanwhile.
template <cpu_backend B, class Sequence>
void extend_chains(const Sequence& sequence, leaf_formation formation, index_t kv_head, index_t end,
                   const clusters& lists, leaf_chains<B>& chains) noexcept {
  if (formation == leaf_formation::by_keys)
    chains.extend(lists.cluster_of.data(), end, [&](index_t t) { return sequence.key(t, kv_head); });
}

/// Brings a KV head's leaves up to tokens [0, end).
template <cpu_backend B, class E, class Sequence>
void extend_leaves(const Sequence& sequence, leaf_formation formation, index_t kv_head, index_t end,
                   kv_head_scratch<B, E>& own, leaf_summaries<B, E>& leaves) noexcept {
  const auto key   = [&](index_t t) { return sequence.key(t, kv_head); };
  const auto value = [&](index_t t) { return sequence.value(t, kv_head); };
  extend_chains(sequence, formation, kv_head, end, own.lists, own.chains);
  const bool by_keys = formation == leaf_formation::by_keys;
  leaves.extend(by_keys ? own.chains.chain_of() : own.lists.cluster_of.data(), end, key, value, own.sums);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
