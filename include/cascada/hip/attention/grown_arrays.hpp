#pragma once
// The arrays of a sequence that grows, cut from one allocation.

#include <algorithm>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_tokens.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Nothing, at first.
template <class Scalar, class B>
struct grown_arrays {
  sequence_sizes sizes       = {};  // with as many tokens as there is room for
  index_t        chunk       = 0;   // 0: there are no leaves
  index_t        fields      = 0;   // far fields that there is room for
  index_t        slices      = 1;   // of a call
  bool           varies      = false;
  grown_tokens   grown       = {};
  grown_leaves   leaves      = {};
  Scalar*        mean_keys   = nullptr;  // [kv_heads, T, dim], one row a token
  Scalar*        mean_values = nullptr;
  std::uint16_t* variances   = nullptr;  // [kv_heads, T, variance_parts]

  /// For calls of sizes.asking tokens at most.
  void plan(const attention_options& options, const sequence_sizes& of) noexcept {
    sizes = of, chunk = 0, fields = 0, slices = 1, varies = false;
    if (!detail::has_leaves(options)) return;
    chunk                  = std::min(options.chunk, of.tokens);
    varies                 = options.moments.has_value();
    const std::int64_t all = (std::int64_t{of.asking} - 2 + chunk) / chunk + 1;  // chunks that they lie in at most
    fields = static_cast<index_t>(std::clamp<std::int64_t>(table_words<B> / (2 * std::int64_t{of.tokens}), 1, all));
    slices = static_cast<index_t>((all + fields - 1) / fields);
  }

  void cut(carver& from) noexcept {
    from.cut(grown.state, 1), from.cut(grown.slices, slices);
    if (chunk == 0) return;
    const std::int64_t tokens = sizes.tokens, rows = tokens * sizes.kv_heads;
    for (index_t** links : {&leaves.chain, &leaves.before, &leaves.next, &leaves.size, &leaves.tail, &leaves.first})
      from.cut(*links, tokens);
    from.cut(leaves.far_rows, fields * tokens), from.cut(leaves.far_sizes, fields * tokens);
    from.cut(leaves.far_count, fields);
    from.cut(mean_keys, rows * sizes.dim), from.cut(mean_values, rows * sizes.dim);
    if (varies) from.cut(variances, rows * variance_parts);
  }

  /// Whether a sequence with these plans has room.
  bool fits(const grown_arrays& of) const noexcept {
    return grown.state && sizes.tokens >= of.sizes.tokens && sizes.heads == of.sizes.heads &&
           sizes.kv_heads == of.sizes.kv_heads && sizes.dim == of.sizes.dim && (chunk > 0) == (of.chunk > 0) &&
           varies == of.varies && fields >= of.fields && slices >= of.slices;
  }

  /// Tokens that join leaves in a call of so many, at most: whole chunks of them.
  index_t most_joining(index_t asking) const noexcept {
    if (chunk == 0) return 0;
    const std::int64_t chunks = (std::int64_t{asking} - 1) / chunk + 1;
    return static_cast<index_t>(std::min<std::int64_t>(chunks * chunk, sizes.tokens));
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
