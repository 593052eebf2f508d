#pragma once
// Refinement, steps 3 and 5: a row's candidates are scored, its chosen tokens attended, by one wave.
//
//   S^T [16 tokens, 16 heads] = K Q^T,  O^T [dim, heads] += V^T P^T
//
// The tokens of a row are its own, so a wave reads their keys and values straight into operands. Elements of a value
// come four at a time: row i of tile e of a block of 64 is element 4 i + e.

#include <cstdint>
#include <limits>

#include "cascada/hip/refine_operands.hpp"

namespace cascada::hip {

/// The heads of one KV group, 16 at a time, against tokens that a list names.
template <matrix_scalar Scalar, index_t Dim>
struct listed_tokens {
  heads_view<const Scalar> rows;  // keys
  const index_t*           places;
  const index_t*           members;
  index_t                  count;

  CASCADA_DEVICE CASCADA_INLINE index_t token(index_t i) const { return members[places[i < count ? i : count - 1]]; }

  /// visit(h, head, exists, against_tokens) for 16 heads of the token's KV group at a time, from the h-th on: each lane
  /// has one, or the last again, which then does not exist. against_tokens(take) calls take(first, logits [16 tokens,
  /// 16 heads]) for 16 tokens at a time.
  template <class Gpu, class Visit>
  CASCADA_DEVICE CASCADA_INLINE void for_heads(Gpu& gpu, const heads_view<const Scalar>& q, index_t asking,
                                               index_t kv_head, index_t group, Visit visit) const {
    for (index_t h = 0; h < group; h += 16) {
      const bool          exists = h + gpu.lane() % 16 < group;
      const index_t       head   = kv_head * group + (exists ? h + gpu.lane() % 16 : group - 1);
      const Scalar* const row    = q.row(asking, head);
      vector8             query[Dim / 32];
#pragma GCC unroll 8
      for (index_t s = 0; s < Dim / 32; ++s) query[s] = load_8(row + 32 * s + gpu.lane() / 16 * 8);
      visit(h, head, exists, [&](auto take) {
#pragma GCC unroll 1
        for (index_t i = 0; i < count; i += 16) take(i, multiply(gpu, query, kv_head, i));
      });
    }
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_4 multiply(Gpu& gpu, const vector8 (&query)[Dim / 32], index_t kv_head,
                                                index_t first) const {
    const Scalar* const row = rows.row(token(first + gpu.lane() % 16), kv_head) + gpu.lane() / 16 * 8;
    vector8             key[Dim / 32];
#pragma GCC unroll 8
    for (index_t s = 0; s < Dim / 32; ++s) key[s] = load_8(row + 32 * s);
    sums_4 logits = {};
#pragma GCC unroll 8
    for (index_t s = 0; s < Dim / 32; ++s) {
      logits = gpu.template mfma_16x16x16<Scalar>(low(key[s]), low(query[s]), logits);
      logits = gpu.template mfma_16x16x16<Scalar>(high(key[s]), high(query[s]), logits);
    }
    return logits;
  }
};

/// scores of a row's candidates, where there are more than the budget.
template <matrix_scalar Scalar, index_t Dim>
struct score_candidates {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 2;

  refined_slice            slice;
  heads_view<const Scalar> q, keys;
  float                    scale;  // times log2(e)

  index_t grid() const { return slice.rows(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*slice.valid < 0) return;
    const index_t token = slice.first + gpu.block() / slice.kv_heads, kv_head = gpu.block() % slice.kv_heads;
    const index_t count = gpu.uniform(slice.candidate_count[gpu.block()]);
    if (count <= slice.budget) return;
    const listed_tokens<Scalar, Dim> candidates = {
        keys, slice.candidates + std::int64_t{gpu.block()} * slice.limit, slice.clusters.members, count};
    float* const scores = slice.scores.row(token - slice.first, kv_head);
    candidates.for_heads(gpu, q, token, kv_head, q.heads / slice.kv_heads,
                         [&](index_t h, index_t head, bool exists, auto against_tokens) {
      const float log_sum = slice.log_sums ? slice.log_sums[std::int64_t{token} * q.heads + head] : 0;
      against_tokens([&](index_t i, sums_4 part) {
        if (slice.log_sums) part = sum_heads(gpu, part, exists, log_sum);
        const index_t to = i + row_16(gpu.lane(), 0);  // a row has room for whole 32
        if (gpu.lane() % 16 != 0) return;
#pragma GCC unroll 4
        for (index_t v = 0; v < 4; ++v) scores[to + v] = h == 0 ? part[v] : scores[to + v] + part[v];
      });
    });
  }

 private:
  /// sum_h exp2(logit - L_h)
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_4 sum_heads(Gpu& gpu, sums_4 logits, bool exists, float log_sum) const {
#pragma GCC unroll 4
    for (index_t v = 0; v < 4; ++v) {
      float sum = exists ? gpu.exp2(logits[v] * scale - log_sum) : 0.0f;
#pragma GCC unroll 4
      for (index_t step = 1; step < 16; step *= 2) sum += gpu.shuffle(sum, gpu.lane() ^ step);
      logits[v] = sum;
    }
    return logits;
  }
};

/// The softmax over a row's chosen tokens: averages [T, heads, Dim], and log2 of the sums [T, heads].
template <matrix_scalar Scalar, index_t Dim>
struct attend_chosen {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 2;

  refined_slice            slice;
  heads_view<const Scalar> q, keys, values;
  float*                   out;
  float*                   log_sums;
  float                    scale;  // times log2(e)

  index_t grid() const { return slice.rows(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*slice.valid < 0) return;
    const index_t token = slice.first + gpu.block() / slice.kv_heads, kv_head = gpu.block() % slice.kv_heads;
    const listed_tokens<Scalar, Dim> chosen = {keys, slice.chosen + std::int64_t{gpu.block()} * slice.budget,
                                               slice.clusters.members, gpu.uniform(slice.chosen_count[gpu.block()])};
    chosen.for_heads(gpu, q, token, kv_head, q.heads / slice.kv_heads,
                     [&](index_t, index_t head, bool exists, auto against_tokens) {
      summed state;
      against_tokens([&](index_t i, sums_4 logits) {
        const fragment weights = update(gpu, logits, chosen.count - i, state);
        multiply_values(gpu, chosen, kv_head, i, weights, state);
      });
      state.sum += gpu.shuffle(state.sum, gpu.lane() ^ 16);
      state.sum += gpu.shuffle(state.sum, gpu.lane() ^ 32);
      if (exists) write(gpu, state, std::int64_t{token} * q.heads + head);
    });
  }

 private:
  struct summed {
    sums_4 out[Dim / 16] = {};
    float  top           = -std::numeric_limits<float>::infinity();
    float  sum           = 0;  // of this lane's tokens
  };

  /// Takes in 16 logits: tokens before `seen` count.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE fragment update(Gpu& gpu, sums_4 logits, index_t seen, summed& state) const {
    float top = state.top;
#pragma GCC unroll 4
    for (index_t v = 0; v < 4; ++v) {
      logits[v] = row_16(gpu.lane(), v) < seen ? logits[v] * scale : -std::numeric_limits<float>::infinity();
      top       = __builtin_fmaxf(top, logits[v]);
    }
    top = __builtin_fmaxf(top, gpu.shuffle(top, gpu.lane() ^ 16));
    top = __builtin_fmaxf(top, gpu.shuffle(top, gpu.lane() ^ 32));
    const float reference = top == -std::numeric_limits<float>::infinity() ? 0.0f : top;
    const float shrink    = gpu.exp2(state.top - reference);
    state.top             = top;
    state.sum *= shrink;
#pragma GCC unroll 16
    for (index_t t = 0; t < Dim / 16; ++t) state.out[t] *= shrink;
    fragment weights = {};
#pragma GCC unroll 4
    for (index_t v = 0; v < 4; ++v) {
      const float weight = gpu.exp2(logits[v] - reference);
      state.sum += weight;
      weights[v] = from_float<Scalar>(weight).bits;
    }
    return weights;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply_values(Gpu& gpu, const listed_tokens<Scalar, Dim>& chosen,
                                                     index_t kv_head, index_t first, fragment weights,
                                                     summed& state) const {
    const Scalar* row[4];
#pragma GCC unroll 4
    for (index_t v = 0; v < 4; ++v)
      row[v] = values.row(chosen.token(first + row_16(gpu.lane(), v)), kv_head) + gpu.lane() % 16 * 4;
#pragma GCC unroll 4
    for (index_t b = 0; b < Dim / 64; ++b) {
      fragment value[4];
#pragma GCC unroll 4
      for (index_t v = 0; v < 4; ++v)
        __builtin_memcpy(&value[v], __builtin_assume_aligned(row[v] + 64 * b, 8), sizeof(fragment));
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) {
        const fragment turned  = {value[0][e], value[1][e], value[2][e], value[3][e]};
        state.out[4 * b + e] = gpu.template mfma_16x16x16<Scalar>(turned, weights, state.out[4 * b + e]);
      }
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void write(Gpu& gpu, const summed& state, std::int64_t place) const {
    const float inverse = state.sum == 0 ? 0.0f : 1.0f / state.sum;
#pragma GCC unroll 4
    for (index_t b = 0; b < Dim / 64; ++b)
#pragma GCC unroll 4
      for (index_t v = 0; v < 4; ++v)
#pragma GCC unroll 4
        for (index_t e = 0; e < 4; ++e)
          out[place * Dim + 64 * b + 4 * row_16(gpu.lane(), v) + e] = state.out[4 * b + e][v] * inverse;
    if (gpu.lane() < 16) log_sums[place] = state.top + gpu.log2(state.sum);
  }
};

}  // namespace cascada::hip
