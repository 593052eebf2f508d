#pragma once
// What attention's kernels work on: query rows with their running softmax, blocks of keys and values, and their shapes.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/bf16_pairs.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Rows per tile, and vectors of accumulators per row: they fill the register file and leave room for the operands.
struct attention_shape {
  index_t rows    = 6;
  index_t vectors = 2;
};

template <cpu_backend B>
inline constexpr attention_shape attention_tuning =
    contains(B::instructions, isa::avx512f) ? attention_shape{6, 4} : attention_shape{};

/// Keys per panel; a multiple of the columns of every tile of sums.
template <cpu_backend B>
inline constexpr index_t panel_keys = 64;

/// Keys that a row takes into its softmax at once: as many as leave its scores in the L1 cache, so that the old values
/// are rescaled and read seldom.
template <cpu_backend B, class E = float>
inline constexpr index_t block_keys = 512;

/// Rows whose scores are under way at a time, and lanes between them: of pairs, off the multiples of a page at which
/// stores and loads look alike.
template <cpu_backend B, class E>
inline constexpr index_t score_rows_at_once = std::same_as<E, float> ? attention_tuning<B>.rows : 32;
template <cpu_backend B, class E>
inline constexpr index_t score_stride = block_keys<B, E> + (std::same_as<E, float> ? 0 : vec<B>::width);

/// Lanes between rows of weights: pairs lie beside the scores, floats take their place.
template <cpu_backend B, class E>
inline constexpr index_t weight_stride =
    std::same_as<E, float> ? score_stride<B, E> : block_keys<B, E> / 2 + vec<B>::width;

/// Where key `first`, the first of a vector, begins in panels [lanes, panel_keys].
template <cpu_backend B>
CASCADA_INLINE std::int64_t panel_offset(index_t first, index_t lanes) noexcept {
  return std::int64_t{first / panel_keys<B>} * panel_keys<B> * lanes + first % panel_keys<B>;
}

template <cpu_backend B>
CASCADA_INLINE index_t whole_vectors(index_t count) noexcept {
  return (count + vec<B>::width - 1) / vec<B>::width * vec<B>::width;
}

/// Of a row that has what is not finite, or whose length nobody looked at.
inline constexpr float unknown_length = 0x1p60f;

/// Times scale, the length of a row with that square, or a little more: squares of elements below 2^-63 are lost. Bits
/// tell what is not finite, whatever -ffast-math assumes.
template <cpu_backend B>
CASCADA_INLINE float length_of(float square, float scale = 1) noexcept {
  if (std::bit_cast<std::uint32_t>(square) >= 0x7f80'0000u) return unknown_length;
  return (1.01f * std::sqrt(square) + 0x1p-56f) * scale;
}

/// What happens to a sequence's scores between the products and the softmax. In base 2, but for the slopes.
struct score_terms {
  float        cap    = 0;        // logits come to lie in (-cap, cap); 0: they stay
  index_t      window = 0;        // tokens that a token sees, itself the last; 0: all before it
  const float* slopes = nullptr;  // [heads]

  CASCADA_INLINE bool any() const noexcept { return cap > 0 || window > 0 || slopes; }
};

/// The same for one block of keys of one KV head.
struct score_adjustment {
  float          cap       = 0;
  const float*   slopes    = nullptr;  // [group]
  const index_t* positions = nullptr;  // with slopes: of the keys
  index_t        token     = 0;        // with slopes: the position of the tile's first token
  std::int64_t   hidden    = std::numeric_limits<std::int64_t>::min() / 2;  // keys that it no longer sees

  CASCADA_INLINE bool changes_logits() const noexcept { return cap > 0 || slopes; }
};

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

  bool                    rounded = false;    // of floats: keys and values are pairs of bfloat16 all the same
  const score_adjustment* adjust  = nullptr;  // null: scores and bias are logits, and rows see keys from the first on

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

/// Query rows with their running softmax, token-major, the heads of a KV group side by side.
template <cpu_backend B, class E = float>
struct query_rows {
  index_t rows         = 0;
  index_t group        = 1;  // rows per token
  index_t key_lanes    = 0;
  index_t value_stride = 0;        // whole vectors
  float   scale        = 1;        // of scores that the queries do not carry
  float*  queries      = nullptr;  // [rows, key_lanes]
  float*  lengths      = nullptr;  // pairs: of the queries, times scale, or unknown_length, [rows]
  float*  maxima       = nullptr;  // [rows]
  float*  sums         = nullptr;  // [rows, vec width]: each lane its share of the weights
  float*  values       = nullptr;  // [rows, value_stride], times the sum

  /// The rows of tokens [first, first + tokens).
  CASCADA_INLINE query_rows part(index_t first, index_t tokens) const noexcept {
    query_rows some = *this;
    some.rows       = tokens * group;
    some.queries += std::int64_t{first} * group * key_lanes;
    if constexpr (!std::same_as<E, float>) some.lengths += first * group;
    some.maxima += first * group;
    some.sums += first * group * vec<B>::width;
    some.values += std::int64_t{first} * group * value_stride;
    return some;
  }

  CASCADA_INLINE float* values_of(index_t row) const noexcept { return values + std::int64_t{row} * value_stride; }
  CASCADA_INLINE float  sum(index_t row) const noexcept { return reduce_sum(vec<B>::load(sums + row * vec<B>::width)); }
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

/// Turns `count` scores of a row into logits, in place: times scale, capped, less the slope, and with the bias.
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
    if (adjust.cap > 0) logit = cap * tanh(logit / cap);
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

/// Nothing seen yet.
template <cpu_backend B, class E>
void clear(const query_rows<B, E>& tile) noexcept {
  for (index_t row = 0; row < tile.rows; ++row) {
    tile.maxima[row] = std::numeric_limits<float>::lowest();
    vec<B>::zero().store(tile.sums + row * vec<B>::width);
    for (index_t c = 0; c < tile.value_stride; c += vec<B>::width) vec<B>::zero().store(tile.values_of(row) + c);
  }
}

/// Takes a row that attended to other keys into a row of the tile: log-sum-exp of the two.
template <cpu_backend B, class E>
void merge_row(const query_rows<B, E>& tile, index_t row, const query_rows<B, E>& other, index_t other_row) noexcept {
  const float mine = tile.maxima[row], its = other.maxima[other_row];
  const float now       = its > mine ? its : mine;
  const auto  my_share  = exp2(vec<B>::broadcast(mine) - vec<B>::broadcast(now));
  const auto  its_share = exp2(vec<B>::broadcast(its) - vec<B>::broadcast(now));
  const auto  merge     = [&](float* a, const float* b) {
    multiply_add(vec<B>::load(b), its_share, vec<B>::load(a) * my_share).store(a);
  };
  tile.maxima[row] = now;
  merge(tile.sums + row * vec<B>::width, other.sums + other_row * vec<B>::width);
  for (index_t c = 0; c < tile.value_stride; c += vec<B>::width)
    merge(tile.values_of(row) + c, other.values_of(other_row) + c);
}

/// Whether a row saw nothing, by the sum of its weights; by bits: -ffast-math may take NaN for 0.
template <cpu_backend B>
CASCADA_INLINE bool saw_nothing(float sum) noexcept {
  return (std::bit_cast<std::uint32_t>(sum) << 1) == 0;
}

/// The natural logarithm of the sum of a row's weights.
template <cpu_backend B, class E>
float log_sum_exp(const query_rows<B, E>& tile, index_t row) noexcept {
  const float sum = tile.sum(row);
  if (saw_nothing<B>(sum)) return -std::numeric_limits<float>::infinity();
  const double base_2 = static_cast<double>(tile.maxima[row]) + std::log2(static_cast<double>(sum));
  return static_cast<float>(base_2 * std::numbers::ln2);
}

/// out [value_dim] = values / sum of the weights; zeros for a row that saw nothing.
template <cpu_backend B, class E, row_scalar Out>
void write_row(const query_rows<B, E>& tile, index_t row, index_t value_dim, Out* out) noexcept {
  const float sum   = tile.sum(row);
  const bool  blind = saw_nothing<B>(sum);
  for (index_t c = 0; c < value_dim; c += vec<B>::width) {
    auto quotient = blind ? vec<B>::zero() : vec<B>::load(tile.values_of(row) + c) / vec<B>::broadcast(sum);
    // Values that a row does not see, times 0, may have turned its -0 into 0: make it 0 always.
    if constexpr (!std::same_as<E, float>) quotient = quotient + vec<B>::zero();
    if (c + vec<B>::width <= value_dim) {
      store_elements(quotient, out + c);
      continue;
    }
    float elements[vec<B>::width];
    quotient.store(elements);
    for (index_t lane = 0; lane < vec<B>::width && c + lane < value_dim; ++lane)
      out[c + lane] = from_float<Out>(elements[lane]);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
