#pragma once
// The arrays of a sequence that grows, cut from one allocation.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_tokens.hpp"
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
  remembered_leaves remembered  = {};
  Scalar*           mean_keys   = nullptr;  // [kv_heads, T, dim], one row a token
  Scalar*           mean_values = nullptr;
  std::uint16_t*    variances   = nullptr;  // [kv_heads, T, variance_parts]

  /// For calls of sizes.asking tokens at most.
  void plan(const attention_options& options, const sequence_sizes& of) noexcept {
    *this = {};
    sizes = of, leaves.sets = 0;
    if (!detail::has_leaves(options)) return;
    chains.sets = detail::forms_by_keys(options) ? of.kv_heads : 0;
    leaves.sets = std::max(chains.sets, 1);
    chunk       = std::min(options.chunk, of.tokens);
    varies      = options.moments.has_value();
    if (detail::opens_by_mass(options)) band = band_of(options, of.group(), of.tokens);
    const std::int64_t tables = table_words<B> / (2 * std::int64_t{of.tokens} * leaves.sets);
    const std::int64_t most   = std::clamp<std::int64_t>(tables, 1, parts_of_call(of.asking, chunk));
    const std::int64_t all    = parts_of_call(of.asking, part());
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
    const std::int64_t tokens = sizes.tokens, rows = tokens * sizes.kv_heads, places = tokens * leaves.sets;
    for (index_t** links : {&leaves.chain, &leaves.before, &leaves.next, &leaves.size, &leaves.tail, &leaves.first})
      from.cut(*links, places);
    from.cut(leaves.count, leaves.sets), from.cut(leaves.older, leaves.sets);
    from.cut(leaves.far_rows, fields * places), from.cut(leaves.far_sizes, fields * places);
    from.cut(leaves.far_count, std::int64_t{fields} * leaves.sets);
    from.cut(mean_keys, rows * sizes.dim), from.cut(mean_values, rows * sizes.dim);
    if (varies) from.cut(variances, rows * variance_parts);
    const std::int64_t at_hand = std::int64_t{chains.sets} * chain_batch;
    from.cut(chains.anchors, chains.sets * tokens), from.cut(chains.count, chains.sets);
    from.cut(chains.nearest, at_hand), from.cut(chains.norms, at_hand);
    from.cut(remembered.open, remembered_bands * rows * remembered.words);
  }

  /// Whether a sequence with these plans has room.
  bool fits(const grown_arrays& of) const noexcept {
    return grown.state && sizes.tokens >= of.sizes.tokens && sizes.heads == of.sizes.heads &&
           sizes.kv_heads == of.sizes.kv_heads && sizes.dim == of.sizes.dim && (chunk > 0) == (of.chunk > 0) &&
           leaves.sets == of.leaves.sets && chains.sets == of.chains.sets && (band > 0) == (of.band > 0) &&
           varies == of.varies && remembered.words == of.remembered.words && fields >= of.fields && slices >= of.slices;
  }

  /// Tokens that join leaves in a call of so many, at most: whole chunks of them.
  index_t most_joining(index_t asking) const noexcept {
    if (chunk == 0) return 0;
    const std::int64_t chunks = (std::int64_t{asking} - 1) / chunk + 1;
    return static_cast<index_t>(std::min<std::int64_t>(chunks * chunk, sizes.tokens));
  }

  /// Tokens of a part of the queries.
  index_t part() const noexcept { return band > 0 ? band : chunk; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
