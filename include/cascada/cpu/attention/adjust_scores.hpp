#pragma once
// Scores become logits where a cap or slopes have a say in them.

#include <cstdint>
#include <numbers>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/query_rows.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Turns a row's scores for the first `count` keys of a block into logits, in place: times scale, capped, less the
/// slope, and with the bias.
template <cpu_backend B, class E>
void adjust_scores(const query_rows<B, E>& tile, index_t row, const key_block& block, index_t count,
                   float* scores) noexcept {
  using ints                     = integers<B>;
  using floats                   = typename integers<B, float>::lanes;
  const score_adjustment& adjust = *block.adjust;
  const index_t           token = row / tile.group, position = adjust.token + token;
  const float*            bias  = block.bias_of(token);
  const auto              scale = vec<B>::broadcast(tile.scale), cap = vec<B>::broadcast(adjust.cap);
  const float slope = adjust.slopes ? -adjust.slopes[row % tile.group] * std::numbers::log2e_v<float> : 0.0f;
  for (index_t j = 0; j < count; j += vec<B>::width) {
    auto logit = vec<B>::load(scores + j) * scale;
    if (adjust.cap > 0) logit = cap * tanh(quotient(logit, adjust.cap));
    if (adjust.slopes) {
      const auto between  = ints::load(adjust.positions + block.begin + j) - position;
      const auto distance = __builtin_convertvector(between < 0 ? -between : between, floats);
      vec<B>     far;
      __builtin_memcpy(&far.value, &distance, sizeof distance);
      logit = multiply_add(far, vec<B>::broadcast(slope), logit);
    }
    if (bias) logit = logit + vec<B>::load(bias + j);
    logit.store(scores + j);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
