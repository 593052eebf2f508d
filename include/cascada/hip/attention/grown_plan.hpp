#pragma once
// What a sequence that grows needs room for, as the host knows it from the options and the sizes.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/shapes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Nothing, at first.
struct grown_plan {
  sequence_sizes sizes            = {};  // with as many tokens as there is room for
  index_t        chunk            = 0;   // 0: there are no leaves
  index_t        band             = 0;   // 0: none open by mass
  index_t        parts            = 0;   // of a slice of a call: chunks, or bands
  index_t        fields           = 0;   // far fields of these, that there is room for
  index_t        slices           = 1;   // of a call
  index_t        leaf_sets        = 0;   // one for all KV heads, or each KV head's own
  index_t        chain_sets       = 0;   // by keys: each KV head's own
  index_t        selection_sets   = 0;   // each KV head's own; none where all have one
  index_t        remembered_words = 0;   // of a leaf, for what opened
  bool           varies           = false;

  /// For calls of sizes.queries tokens at most.
  template <class B>
  static grown_plan of(const attention_options& options, const sequence_sizes& sizes) noexcept {
    grown_plan plan = {.sizes = sizes};
    if (!detail::has_leaves(options)) return plan;
    plan.chain_sets     = detail::forms_by_keys(options) ? sizes.kv_heads : 0;
    plan.leaf_sets      = std::max(plan.chain_sets, sizes.sets);
    plan.selection_sets = sizes.sets > 1 ? sizes.sets : 0;
    plan.chunk          = std::min(options.chunk, sizes.tokens);
    plan.varies         = options.moments.has_value();
    if (detail::opens_by_mass(options)) plan.band = band_of(options, sizes.group(), sizes.tokens);
    const std::int64_t tables = table_words<B> / (2 * std::int64_t{sizes.tokens} * plan.leaf_sets);
    const std::int64_t most   = std::clamp<std::int64_t>(tables, 1, parts_of_call(sizes.queries, plan.chunk));
    const index_t      part   = plan.part();
    const std::int64_t all    = parts_of_call(sizes.queries, part);
    const std::int64_t room   = plan.band > 0 ? bands_of_slice<B>(options, sizes) : all;
    plan.parts                = static_cast<index_t>(std::min({(most - 1) * plan.chunk / part + 1, room, all}));
    plan.fields = static_cast<index_t>((std::int64_t{plan.parts} * part + plan.chunk - part - 1) / plan.chunk + 1);
    plan.slices = static_cast<index_t>((all + plan.parts - 1) / plan.parts);
    // In the first chunk no leaf is older than the near field.
    plan.remembered_words = plan.band > 0 && options.chunk < sizes.tokens ? (plan.band - 1) / 32 + 1 : 0;
    return plan;
  }

  /// Whether memory for this has room for the other one.
  bool covers(const grown_plan& other) const noexcept {
    return sizes.tokens >= other.sizes.tokens && sizes.heads == other.sizes.heads &&
           sizes.kv_heads == other.sizes.kv_heads && sizes.dim == other.sizes.dim && (chunk > 0) == (other.chunk > 0) &&
           leaf_sets == other.leaf_sets && chain_sets == other.chain_sets && selection_sets == other.selection_sets &&
           (band > 0) == (other.band > 0) && varies == other.varies && remembered_words == other.remembered_words &&
           fields >= other.fields && slices >= other.slices;
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
