#pragma once
// Weights of leaves: logits become weights of a row, some ask, some are taken out again. For floats and for pairs.
//
// A row's weights lie side by side, one leaf an element: floats, or halves of pairs.

#include <bit>
#include <cstdint>
#include <cstring>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/pair_weights.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Leaves whose weights fill a register.
template <cpu_backend B, class E>
inline constexpr index_t leaves_at_once = vec<B>::width * elements_per_lane<E>;

/// A row's logits become weights relative to `now`. Adds to `sums` those of all leaves, to `closed` those where `many`
/// is 1; both are vectors of shares.
template <cpu_backend B>
CASCADA_INLINE void weigh_row(float* logits, index_t count, float now, const float* many, float* sums,
                              float* closed) noexcept {
  const auto below = vec<B>::broadcast(now);
  auto       total = vec<B>::load(sums), several = vec<B>::zero();
  for (index_t j = 0; j < count; j += vec<B>::width) {
    const auto weight = exp2(vec<B>::load(logits + j) - below);
    weight.store(logits + j);
    total   = total + weight;
    several = multiply_add(weight, vec<B>::load(many + j), several);
  }
  total.store(sums), several.store(closed);
}

/// The leaves from `first`, a multiple of leaves_at_once, whose weights exceed `bound`, as bits.
template <cpu_backend B>
CASCADA_INLINE std::uint32_t heavier(const float* weights, index_t first, float bound) noexcept {
  return bits_less(vec<B>::broadcast(bound), vec<B>::load(weights + first));
}

/// Takes leaves out of a row. Returns what they weighed.
template <cpu_backend B, class E>
CASCADA_INLINE float take_out(float* weights, const index_t* leaves, index_t count) noexcept {
  float taken = 0;
  for (index_t i = 0; i < count; ++i) {
    taken += element_of<E>(weights, leaves[i]);
    if constexpr (std::same_as<E, float>)
      weights[leaves[i]] = 0;
    else
      set_element(weights, leaves[i], bfloat16{0});
  }
  return taken;
}

/// Multiplies a row's weights with the scales of the leaves' mean values.
template <cpu_backend B>
CASCADA_INLINE void scale_weights(float* weights, index_t count, const float* scales) noexcept {
  for (index_t j = 0; j < count; j += vec<B>::width)
    (vec<B>::load(weights + j) * vec<B>::load(scales + j)).store(weights + j);
}

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)

/// The same of pairs, rounded. Returns the sum of what is left.
template <cpu_backend B>
CASCADA_INLINE float scale_weights_of_pairs(float* weights, index_t count, const float* scales) noexcept {
  auto total = vec<B>::zero();
  for (index_t j = 0; j < count; j += 2 * vec<B>::width) {
    const __m512i pairs = _mm512_loadu_si512(weights + j / 2);
    const auto    first = widen_bfloat16<B>(_mm512_castsi512_si256(pairs)) * vec<B>::load(scales + j);
    const auto    second =
        widen_bfloat16<B>(_mm512_extracti64x4_epi64(pairs, 1)) * vec<B>::load(scales + j + vec<B>::width);
    const vec<B> scaled = round_to_pairs(first, second);
    scaled.store(weights + j / 2);
    total = add_pair_products(scaled, vec<B>::broadcast(pair_of_ones), total);
  }
  return reduce_sum(total);
}

/// As weigh_row; `many` has pairs. The weights are rounded before they are added.
template <cpu_backend B>
CASCADA_INLINE void weigh_row_of_pairs(float* logits, index_t count, float now, const float* many, float* sums,
                                       float* closed) noexcept {
  const score_row<B, false> row{logits, nullptr, _mm512_set1_ps(1)};
  const index_t             padded = whole_weights(count);
  const auto                before = vec<B>::load(sums);  // apart: not even 2^0 is exact there
  float                     same   = now;
  vec<B>::zero().store(sums);
  absorb_scores(row, now, logits, count, padded, same, sums);
  (before + vec<B>::load(sums)).store(sums);
  auto several = vec<B>::zero();
  for (index_t j = 0; j < padded / 2; j += vec<B>::width)
    several = add_pair_products(vec<B>::load(logits + j), vec<B>::load(many + j), several);
  several.store(closed);
}

/// As heavier, of 32 leaves.
template <cpu_backend B>
CASCADA_INLINE std::uint32_t heavier_of_pairs(const float* weights, index_t first, float bound) noexcept {
  // Weights have no sign, so their bits order as they do. Truncated, the bound lets through what exceeds it.
  const auto limit = static_cast<short>(std::bit_cast<std::uint32_t>(bound) >> 16);
  return _mm512_cmpgt_epu16_mask(_mm512_loadu_si512(weights + first / 2), _mm512_set1_epi16(limit));
}

#endif

/// Adds a row's weights to `sums`, and sets `closed` to the sum of those where `many` is 1; both are vectors of shares.
template <cpu_backend B, class E>
void add_weights_of_leaves(const float* weights, index_t count, const float* many, float* sums,
                           float* closed) noexcept {
  constexpr index_t at_once = leaves_at_once<B, E>;
  auto              total = vec<B>::load(sums), several = vec<B>::zero();
  for (index_t j = 0; j < count; j += at_once) {
    const auto weight = vec<B>::load(weights + j / elements_per_lane<E>);
    several           = add_products<E>(weight, vec<B>::load(many + j / elements_per_lane<E>), several);
    if constexpr (std::same_as<E, float>)
      total = total + weight;
    else
      total = add_pair_products(weight, vec<B>::broadcast(pair_of_ones), total);
  }
  total.store(sums), several.store(closed);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
