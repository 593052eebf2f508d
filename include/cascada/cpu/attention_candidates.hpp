#pragma once
// Refinement's choices: the best clusters' tokens become candidates, the best candidates are chosen.
//
// No order is needed but where the cut falls: the bits of scores, which have no sign, order as integers, so the cut is
// found by bisection, among ever fewer scores.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention_rows.hpp"
#include "cascada/cpu/attention_workspace.hpp"
#include "cascada/cpu/ranks.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Heads that score a key while it is in a register.
template <cpu_backend B>
inline constexpr index_t scoring_heads = contains(B::instructions, isa::avx512f) ? 6 : 3;

/// Bits of a score, an integer that orders as the score does. A NaN, whose row is lost anyway, has a place too.
template <cpu_backend B>
CASCADA_INLINE index_t rank_of(float score) noexcept {
  return std::bit_cast<index_t>(score);
}

/// Scores above `rank` are taken, and of those on it as much as there is `room` for.
struct score_cut {
  index_t rank;
  index_t room;
};

/// The cut that takes `enough` of the scores' amounts, or of their number; all together are as much or more. Every few
/// steps of the bisection, the scores that are still between its ends are set apart.
template <cpu_backend B>
score_cut find_cut(const float* scores, const index_t* amounts, index_t count, index_t enough,
                   refinement_scratch<B>& scratch) noexcept {
  constexpr index_t steps_a_sweep = 3;
  std::int64_t      low = 0, high = std::int64_t{highest_rank<B>(scores, count)} + 1;
  index_t           above = 0, set_aside = 0;  // amounts of scores from `high`, and of those that are out of sight
  for (std::int64_t reach = 1 << 25; reach < high && low == 0; reach *= 8) {  // from 1/16 of the best, then 2^-32
    const auto    guess  = static_cast<index_t>(high - reach);
    const index_t amount = amount_from<B>(guess, scores, amounts, count);
    if (amount >= enough)
      low = guess;
    else
      high = guess, above = amount;
  }
  for (index_t step = 1; high - low > 1; ++step) {
    const auto    middle = static_cast<index_t>((low + high) / 2);
    const index_t amount = set_aside + amount_from<B>(middle, scores, amounts, count);
    if (amount == enough) return {middle - 1, 0};
    if (amount < enough)
      high = middle, above = amount;
    else
      low = middle;
    if (step % steps_a_sweep != 0 || count <= vec<B>::width) continue;
    index_t* left = amounts ? scratch.ranked_sizes.data() : nullptr;
    count     = keep_between<B>(static_cast<index_t>(low), high, scores, amounts, count, scratch.ranked.data(), left);
    scores    = scratch.ranked.data();
    amounts   = left;
    set_aside = above;
  }
  return {static_cast<index_t>(low), enough - above};
}

/// The members of a token's best clusters, `limit` of them; ties go to lower clusters, and to a cluster's first tokens.
/// `weights` and `totals` are the token's. Returns how many.
template <cpu_backend B, class E>
index_t list_candidates(index_t group, const float* weights, std::int64_t stride, const float* totals, index_t limit,
                        const kv_head_state<B, E>& head, refinement_scratch<B>& scratch) noexcept {
  const index_t  clusters = head.summaries.count();
  const index_t* sizes    = head.summaries.sizes();
  float*         scores   = scratch.scores.data();
  for (index_t j = 0; j < clusters; j += vec<B>::width) vec<B>::zero().store(scores + j);
  for (index_t row = 0; row < group; ++row) {
    const auto share = vec<B>::broadcast(1 / totals[row]);
    for (index_t j = 0; j < clusters; j += vec<B>::width)
      abs(multiply_add(vec<B>::load(weights + row * stride + j), share, vec<B>::load(scores + j))).store(scores + j);
  }
  auto [cut, room]     = find_cut<B>(scores, sizes, clusters, limit, scratch);
  index_t*      best   = scratch.picks.data();
  const index_t count  = list_from<B>(cut, scores, clusters, best);
  index_t       listed = 0;
  for (index_t i = 0; i < count; ++i) {
    const bool    on_cut = rank_of<B>(scores[best[i]]) == cut;
    const index_t size = sizes[best[i]], taken = on_cut && room < size ? room : size;
    room -= on_cut ? taken : 0;
    list_run<B>(head.lists.begin(best[i]), taken, scratch.candidates.data() + listed);
    listed += taken;
  }
  return listed;
}

/// logits [Heads, width] of the keys at `width` places: products x scale.
template <cpu_backend B, class E, index_t Heads>
CASCADA_INLINE void score_keys(const float* queries, float scale, const cluster_rows<B, E>& rows, const index_t* places,
                               float* logits, std::int64_t stride) noexcept {
  constexpr index_t width = vec<B>::width, together = width < 4 ? width : 4;
  const index_t     key_stride = rows.key_stride();
  vec<B>            products[Heads][width];
#pragma GCC unroll 4
  for (index_t first = 0; first < width; first += together) {
    const float* keys[together];
    vec<B>       sum[together][Heads];
#pragma GCC unroll 4
    for (index_t i = 0; i < together; ++i) {
      keys[i] = rows.keys() + std::int64_t{places[first + i]} * key_stride;
#pragma GCC unroll 6
      for (index_t h = 0; h < Heads; ++h) sum[i][h] = vec<B>::zero();
    }
    for (index_t k = 0; k < key_stride; k += width) {
      vec<B> query[Heads];
#pragma GCC unroll 6
      for (index_t h = 0; h < Heads; ++h) query[h] = vec<B>::load(queries + h * key_stride + k);
#pragma GCC unroll 4
      for (index_t i = 0; i < together; ++i) {
        const auto key = vec<B>::load(keys[i] + k);
#pragma GCC unroll 6
        for (index_t h = 0; h < Heads; ++h) sum[i][h] = add_products<E>(query[h], key, sum[i][h]);
      }
    }
#pragma GCC unroll 4
    for (index_t i = 0; i < together; ++i)
#pragma GCC unroll 6
      for (index_t h = 0; h < Heads; ++h) products[h][first + i] = sum[i][h];
  }
#pragma GCC unroll 6
  for (index_t h = 0; h < Heads; ++h) (sum_rows(products[h]) * vec<B>::broadcast(scale)).store(logits + h * stride);
}

/// logits [Heads, count], in whole vectors. Flat for the sake of sum_rows, as pack_keys is.
template <cpu_backend B, class E, index_t Heads>
[[gnu::flatten]] void score_places(const float* queries, float scale, const cluster_rows<B, E>& rows,
                                   const index_t* places, index_t count, float* logits, std::int64_t stride) noexcept {
  index_t i = 0;
  for (; i + vec<B>::width <= count; i += vec<B>::width)
    score_keys<B, E, Heads>(queries, scale, rows, places + i, logits + i, stride);
  if (i == count) return;
  index_t rest[vec<B>::width];
  for (index_t lane = 0; lane < vec<B>::width; ++lane) rest[lane] = places[i + lane < count ? i + lane : i];
  score_keys<B, E, Heads>(queries, scale, rows, rest, logits + i, stride);
}

/// score_places for 1 to scoring_heads heads.
template <cpu_backend B, class E, index_t Heads = scoring_heads<B>>
void score_heads(index_t heads, const float* queries, float scale, const cluster_rows<B, E>& rows,
                 const index_t* places, index_t count, float* logits, std::int64_t stride) noexcept {
  if constexpr (Heads > 1)
    if (heads < Heads) return score_heads<B, E, Heads - 1>(heads, queries, scale, rows, places, count, logits, stride);
  score_places<B, E, Heads>(queries, scale, rows, places, count, logits, stride);
}

/// logits [group, count] of a token's candidates.
template <cpu_backend B, class E>
void score_candidates(const query_rows<B, E>& token, const cluster_rows<B, E>& rows, index_t count, std::int64_t stride,
                      refinement_scratch<B>& scratch) noexcept {
  const index_t key_stride = rows.key_stride();
  for (index_t row = 0; row < token.rows; ++row)
    for (index_t k = 0; k < key_stride; ++k)
      scratch.queries[std::int64_t{row} * key_stride + k] =
          k < token.key_lanes ? token.queries[std::int64_t{row} * token.key_lanes + k] : 0.0f;
  for (index_t row = 0; row < token.rows; row += scoring_heads<B>)
    score_heads(token.rows - row < scoring_heads<B> ? token.rows - row : scoring_heads<B>,
                scratch.queries.data() + std::int64_t{row} * key_stride, token.scale, rows, scratch.candidates.data(),
                count, scratch.logits.data() + row * stride, stride);
}

/// scores [count] of a token's candidates: sum over its heads of exp(logit - L_h), up to a common factor that keeps
/// them in range; zero beyond, to a whole vector.
template <cpu_backend B, class E>
void weigh_candidates(const query_rows<B, E>& token, const float* totals, index_t count, std::int64_t stride,
                      refinement_scratch<B>& scratch) noexcept {
  const index_t padded  = whole_vectors<B>(count);
  const auto    log_sum = [&](index_t row) { return vec<B>::broadcast(token.maxima[row] + std::log2(totals[row])); };
  float*        scores  = scratch.scores.data();
  auto          top     = vec<B>::broadcast(std::numeric_limits<float>::lowest());
  for (index_t row = 0; row < token.rows; ++row) {
    float*     logits = scratch.logits.data() + row * stride;
    const auto below  = log_sum(row);
    for (index_t i = count; i < padded; ++i) logits[i] = std::numeric_limits<float>::lowest();
    for (index_t i = 0; i < padded; i += vec<B>::width) top = max(top, vec<B>::load(logits + i) - below);
  }
  const auto highest = vec<B>::broadcast(reduce_max(top));
  for (index_t i = 0; i < padded; i += vec<B>::width) vec<B>::zero().store(scores + i);
  for (index_t row = 0; row < token.rows; ++row) {
    const float* logits = scratch.logits.data() + row * stride;
    const auto   below  = log_sum(row) + highest;
    for (index_t i = 0; i < padded; i += vec<B>::width)
      abs(vec<B>::load(scores + i) + exp2(vec<B>::load(logits + i) - below)).store(scores + i);
  }
  for (index_t i = count; i < padded; ++i) scores[i] = 0;  // of a row that is lost, it was NaN
}

/// The best `budget` of `count` candidates, as indices in scratch.picks, ascending; ties go to lower tokens.
template <cpu_backend B, class E>
index_t pick_best(index_t count, index_t budget, const kv_head_state<B, E>& head,
                  refinement_scratch<B>& scratch) noexcept {
  const float*   scores     = scratch.scores.data();
  const index_t* candidates = scratch.candidates.data();
  const index_t* members    = head.lists.members.data();
  index_t*       picks      = scratch.picks.data();
  const auto     cut        = find_cut<B>(scores, nullptr, count, budget, scratch);
  index_t        picked     = list_from<B>(cut.room > 0 ? cut.rank : cut.rank + 1, scores, count, picks);
  if (picked <= budget) return picked;
  // More ties than room.
  index_t ties = 0;
  for (index_t i = 0; i < count; ++i)
    if (rank_of<B>(scores[i]) == cut.rank) picks[ties++] = members[candidates[i]];
  std::nth_element(picks, picks + cut.room - 1, picks + ties, [](index_t a, index_t b) { return a < b; });
  const index_t last = picks[cut.room - 1];
  picked             = 0;
  for (index_t i = 0; i < count; ++i) {
    const index_t rank = rank_of<B>(scores[i]);
    if (rank > cut.rank || (rank == cut.rank && members[candidates[i]] <= last)) picks[picked++] = i;
  }
  return picked;
}

}  // namespace cascada::inline CASCADA_ABI::kernel
