#pragma once
// The arrays of a sequence that grows, cut from one allocation.

#include "cascada/hip/attention/grown_tokens.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/memory.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Nothing, at first.
struct grown_arrays {
  sequence_sizes sizes = {};  // with as many tokens as there is room for
  grown_tokens   grown = {};

  void cut(carver& from) noexcept { from.cut(grown.state, 1), from.cut(grown.slices, 1); }

  /// Whether a sequence of these sizes has room.
  bool fits(const sequence_sizes& of) const noexcept {
    return sizes.tokens >= of.tokens && sizes.heads == of.heads && sizes.kv_heads == of.kv_heads && sizes.dim == of.dim;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
