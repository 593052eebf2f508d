#pragma once
// A block of keys and values as the kernels read it, and who sees how much of it.

#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/attention/score_terms.hpp"
#include "cascada/cpu/attention/shapes.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Keys and values as the kernel reads them. Of a token's keys only the first ones are visible: `seen` to the tile's
/// first token, one more to each later token (causality), or seen_by[i] more to token i; it may be negative, or beyond
/// `count`. A value that a row does not see is never multiplied: 0 x NaN would let the future through.
struct key_block {
  const float*   keys        = nullptr;  // panels [key_lanes, panel_keys], k-major
  const float*   values      = nullptr;  // [lanes of count, value_stride]
  const float*   wild        = nullptr;  // pairs: as values, what is not finite there; null: all is finite
  const float*   reach       = nullptr;  // pairs: length of the longest key so far, [count]; null: not known
  const float*   bias        = nullptr;  // added to the logits, [tokens, block_keys] or one row; null: nothing
  std::int64_t   bias_stride = 0;        // between tokens; 0: the same for all
  index_t        count       = 0;        // keys in use, 1 to block_keys
  index_t        seen        = 0;
  const index_t* seen_by     = nullptr;  // [tokens], ascending; null: 0, 1, 2, ...
  index_t        begin       = 0;        // where these keys lie in what `adjust` tells of

  summary_type            kept   = summary_type::as_multiplied;  // as what keys and values are here
  const score_adjustment* adjust = nullptr;  // null: scores and bias are logits, and rows see keys from the first on

  /// Scores are capped, if there is a cap.
  CASCADA_INLINE void cap_by(const score_adjustment& capped) noexcept {
    if (capped.cap > 0) adjust = &capped;
  }
  CASCADA_INLINE const float* bias_of(index_t token) const noexcept {
    return bias ? bias + token * bias_stride : nullptr;
  }
  /// Keys that a token of the tile sees.
  CASCADA_INLINE index_t visible(index_t token) const noexcept {
    const std::int64_t sees = std::int64_t{seen} + (seen_by ? seen_by[token] : token);
    return sees < 0 ? 0 : sees < count ? static_cast<index_t>(sees) : count;
  }
  /// Keys that a token of the tile no longer sees: one more than the token before it.
  CASCADA_INLINE index_t hidden(index_t token) const noexcept {
    if (!adjust) return 0;
    const std::int64_t passed = adjust->hidden + token - begin;
    return passed < 0 ? 0 : passed < count ? static_cast<index_t>(passed) : count;
  }
};

/// A block without its first keys, a multiple of panel_keys.
template <cpu_backend B, class E>
CASCADA_INLINE key_block without_first(index_t keys, const query_rows<B, E>& tile, const key_block& block) noexcept {
  const std::int64_t values = std::int64_t{keys / elements_per_lane<E>} * tile.value_stride;
  key_block          rest   = block;
  rest.keys += panel_offset<B>(keys, tile.key_lanes);
  rest.values += values;
  if (rest.wild) rest.wild += values;
  if (rest.reach) rest.reach += keys;
  if (rest.bias) rest.bias += keys;
  rest.count -= keys;
  rest.seen -= keys;
  rest.begin += keys;
  return rest;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
