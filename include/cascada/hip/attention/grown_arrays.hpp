#pragma once
// The arrays of a sequence that grows, cut from one allocation.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/remembered_leaves.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Nothing, at first.
template <class Scalar, class B>
struct grown_arrays {
  sequence_sizes    sizes       = {};  // with as many tokens as there is room for
  index_t           chunk       = 0;   // 0: there are no leaves
  index_t           band        = 0;   // 0: none open by mass
  index_t           parts       = 0;   // of a slice of a call: chunks, or bands
  index_t           fields      = 0;   // far fields of these, that there is room for
  index_t           slices      = 1;   // of a call
  bool              varies      = false;
  grown_tokens      grown       = {};
  grown_leaves      leaves      = {};
  grown_chains      chains      = {};
  grown_selections  selections  = {};
  remembered_leaves remembered  = {};
  Scalar*           mean_keys   = nullptr;  // [kv_heads, T, dim], one row a token
  Scalar*           mean_values = nullptr;
  std::uint16_t*    variances   = nullptr;  // [kv_heads, T, variance_parts]

  /// For calls of sizes.queries tokens at most.
  void plan(const attention_options& options, const sequence_sizes& of) noexcept {
    *this = {};
    sizes = of, leaves.sets = 0;
    if (!detail::has_leaves(options)) return;
    chains.sets     = detail::forms_by_keys(options) ? of.kv_heads : 0;
    leaves.sets     = std::max(chains.sets, of.sets);
    selections.sets = of.sets > 1 ? of.sets : 0;
    chunk           = std::min(options.chunk, of.tokens);
    varies          = options.moments.has_value();
    if (detail::opens_by_mass(options)) band = band_of(options, of.group(), of.tokens);
    const std::int64_t tables = table_words<B> / (2 * std::int64_t{of.tokens} * leaves.sets);
    const std::int64_t most   = std::clamp<std::int64_t>(tables, 1, parts_of_call(of.queries, chunk));
    const std::int64_t all    = parts_of_call(of.queries, part());
    const std::int64_t room   = band > 0 ? bands_of_slice<B>(options, of) : all;
    parts                     = static_cast<index_t>(std::min({(most - 1) * chunk / part() + 1, room, all}));
    fields                    = static_cast<index_t>((std::int64_t{parts} * part() + chunk - part() - 1) / chunk + 1);
    slices                    = static_cast<index_t>((all + parts - 1) / parts);
    // In the first chunk no leaf is older than the near field.
    const index_t words = band > 0 && options.chunk < of.tokens ? (band - 1) / 32 + 1 : 0;
    remembered          = {.open = nullptr, .words = words, .kv_heads = of.kv_heads, .room = of.tokens};
  }

  void cut(carver& from) noexcept {
    from.cut(grown.state, 1), from.cut(grown.slices, slices);
    if (chunk == 0) return;
    const std::int64_t tokens = sizes.tokens, lists = std::int64_t{fields} * leaves.sets;
    for_each_of_tokens(*this, *this, [&](auto*& array, const auto*, std::int64_t sets, std::int64_t each) {
      from.cut(array, sets * tokens * each);
    });
    from.cut(leaves.count, leaves.sets), from.cut(leaves.older, leaves.sets);
    from.cut(leaves.far_rows, lists * tokens), from.cut(leaves.far_sizes, lists * tokens);
    from.cut(leaves.far_count, lists);
    const std::int64_t at_hand = std::int64_t{chains.sets} * chain_batch;
    from.cut(chains.count, chains.sets), from.cut(chains.nearest, at_hand), from.cut(chains.norms, at_hand);
    from.cut(selections.count, selections.sets);
  }

  /// use(array of one, the same of another, sets, each) for what is kept of tokens: [sets, T, each].
  template <class Arrays, class Others, class Use>
  static void for_each_of_tokens(Arrays& one, Others& other, const Use& use) {
    const auto link = [&](auto& array, const auto& theirs) { use(array, theirs, std::int64_t{one.leaves.sets}, 1); };
    link(one.leaves.chain, other.leaves.chain), link(one.leaves.before, other.leaves.before);
    link(one.leaves.next, other.leaves.next), link(one.leaves.size, other.leaves.size);
    link(one.leaves.tail, other.leaves.tail), link(one.leaves.first, other.leaves.first);
    use(one.chains.anchors, other.chains.anchors, std::int64_t{one.chains.sets}, 1);
    use(one.selections.rep, other.selections.rep, std::int64_t{one.selections.sets}, 1);
    const std::int64_t heads = one.sizes.kv_heads, dim = one.sizes.dim;
    use(one.mean_keys, other.mean_keys, heads, dim), use(one.mean_values, other.mean_values, heads, dim);
    if (one.varies) use(one.variances, other.variances, heads, std::int64_t{variance_parts});
    if (one.remembered.words == other.remembered.words)  // else no leaf is there
      use(one.remembered.open, other.remembered.open, remembered_bands * heads, std::int64_t{one.remembered.words});
  }

  /// Whether a sequence with these plans has room.
  bool fits(const grown_arrays& of) const noexcept {
    return grown.state && sizes.tokens >= of.sizes.tokens && sizes.heads == of.sizes.heads &&
           sizes.kv_heads == of.sizes.kv_heads && sizes.dim == of.sizes.dim && (chunk > 0) == (of.chunk > 0) &&
           leaves.sets == of.leaves.sets && chains.sets == of.chains.sets && selections.sets == of.selections.sets &&
           (band > 0) == (of.band > 0) && varies == of.varies && remembered.words == of.remembered.words &&
           fields >= of.fields && slices >= of.slices;
  }

  /// Tokens that join leaves in a call of so many, at most: whole chunks of them.
  index_t most_joining(index_t tokens) const noexcept {
    if (chunk == 0) return 0;
    const std::int64_t chunks = (std::int64_t{tokens} - 1) / chunk + 1;
    return static_cast<index_t>(std::min<std::int64_t>(chunks * chunk, sizes.tokens));
  }

  /// Tokens of a part of the queries.
  index_t part() const noexcept { return band > 0 ? band : chunk; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
