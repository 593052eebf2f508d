#pragma once
// What happens to scores between the products and the softmax: a cap, slopes, a sliding window.

#include <cstdint>
#include <limits>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// What happens to a sequence's scores between the products and the softmax. In base 2, but for the slopes.
struct score_terms {
  float        cap            = 0;        // logits come to lie in (-cap, cap); 0: they stay
  index_t      sliding_window = 0;        // tokens that a token sees, itself the last; 0: all before it
  const float* slopes         = nullptr;  // [heads]

  CASCADA_INLINE bool any() const noexcept { return cap > 0 || sliding_window > 0 || slopes; }
};

/// The same for one block of keys of one KV head.
struct score_adjustment {
  float          cap       = 0;
  const float*   slopes    = nullptr;  // [group]
  const index_t* positions = nullptr;  // with slopes: of the keys
  index_t        token     = 0;        // with slopes: the position of the tile's first token
  std::int64_t   hidden    = std::numeric_limits<std::int64_t>::min() / 2;  // keys that this token no longer sees

  CASCADA_INLINE bool changes_logits() const noexcept { return cap > 0 || slopes; }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
