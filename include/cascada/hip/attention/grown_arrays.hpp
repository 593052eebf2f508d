#pragma once
// The arrays of a sequence that grows, cut from one allocation.

#include <cstdint>

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_plan.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/remembered_leaves.hpp"
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Nothing, at first; then those that `plan` needs.
template <class Scalar>
struct grown_arrays {
  grown_plan        plan        = {};
  grown_tokens      grown       = {};
  grown_leaves      leaves      = {};
  grown_chains      chains      = {};
  grown_selections  selections  = {};
  remembered_leaves remembered  = {};
  Scalar*           mean_keys   = nullptr;  // [kv_heads, room, dim], one row a token
  Scalar*           mean_values = nullptr;
  std::uint16_t*    variances   = nullptr;  // [kv_heads, room, variance_parts]

  void cut(carver& from, const grown_plan& of) noexcept {
    plan        = of;
    leaves.sets = of.leaf_sets, chains.sets = of.chain_sets, selections.sets = of.selection_sets;
    remembered = {nullptr, of.remembered_words, of.sizes.kv_heads, of.sizes.tokens};
    from.cut(grown.state, 1), from.cut(grown.slices, of.slices);
    if (of.chunk == 0) return;
    const std::int64_t room = of.sizes.tokens, lists = std::int64_t{of.fields} * leaves.sets;
    for_each_of_tokens(*this, *this, [&](auto*& array, const auto*, std::int64_t sets, std::int64_t each) {
      from.cut(array, sets * room * each);
    });
    from.cut(leaves.count, leaves.sets), from.cut(leaves.older, leaves.sets);
    from.cut(leaves.far_rows, lists * room), from.cut(leaves.far_sizes, lists * room);
    from.cut(leaves.far_count, lists);
    const std::int64_t at_hand = std::int64_t{chains.sets} * chain_batch;
    from.cut(chains.count, chains.sets), from.cut(chains.nearest, at_hand), from.cut(chains.norms, at_hand);
    from.cut(selections.count, selections.sets);
  }

  /// use(array of one, the same of another, sets, each) for what is kept of tokens: [sets, room, each].
  template <class Arrays, class Others, class Use>
  static void for_each_of_tokens(Arrays& one, Others& other, const Use& use) {
    const auto link = [&](auto& array, const auto& theirs) { use(array, theirs, std::int64_t{one.leaves.sets}, 1); };
    link(one.leaves.chain, other.leaves.chain), link(one.leaves.before, other.leaves.before);
    link(one.leaves.next, other.leaves.next), link(one.leaves.size, other.leaves.size);
    link(one.leaves.tail, other.leaves.tail), link(one.leaves.first, other.leaves.first);
    use(one.chains.anchors, other.chains.anchors, std::int64_t{one.chains.sets}, 1);
    use(one.selections.rep, other.selections.rep, std::int64_t{one.selections.sets}, 1);
    const std::int64_t heads = one.plan.sizes.kv_heads, dim = one.plan.sizes.dim;
    use(one.mean_keys, other.mean_keys, heads, dim), use(one.mean_values, other.mean_values, heads, dim);
    if (one.plan.varies) use(one.variances, other.variances, heads, std::int64_t{variance_parts});
    if (one.remembered.words == other.remembered.words)  // else no leaf is there
      use(one.remembered.open, other.remembered.open, remembered_bands * heads, std::int64_t{one.remembered.words});
  }

  /// Whether a sequence with such a plan has room in them.
  bool have_room_for(const grown_plan& of) const noexcept { return grown.state && plan.covers(of); }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
