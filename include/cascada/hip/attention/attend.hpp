#pragma once
// Attention on the matrix units: 128 rows of queries against 32 keys at a time, softmax on the fly.
//
//   S^T [keys, queries]  = K Q^T
//   O^T [dim, queries]  += V^T P^T, P = exp2(S - max)
//
// Transposed, because a lane's part of S^T is, element for element, its part of the operand P^T of the second product:
// nothing moves between lanes. Each lane has one query, so statistics of the softmax need one exchange, between the
// halves of the wave. Rows are (token, head) pairs of one KV head, so its query heads share every key they read.

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cascada/hip/attention/correction.hpp"
#include "cascada/hip/attention/softmax.hpp"
#include "cascada/hip/attention/tiles.hpp"
#include "cascada/hip/attention/walk.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// How keys of the list count: each the same for all queries, or as pair_counts says.
struct counts_of_keys {};
struct counts_of_pairs {};

template <matrix_scalar Scalar, row_scalar Out, index_t Dim, class Counts = counts_of_keys>
struct attend {
  using tiles                      = key_tiles<Scalar, Dim>;
  static constexpr index_t threads = tiles::threads;
  static constexpr index_t waves   = 2;
  static constexpr index_t keys    = tiles::keys;  // at a time
  static constexpr index_t tile    = 128;

  static constexpr bool same_for_all = std::same_as<Counts, counts_of_keys>;

  using correction = leaf_correction<Scalar, Dim>;

  struct shared {
    typename tiles::shared tile;
    float                  bias[keys];
    // Of each lane, kept here for want of registers: its query's place among the tokens that ask; where the answer
    // goes, 2 (token heads + head) + half of the wave, or -1.
    index_t                                                                  position[threads];
    index_t                                                                  target[threads];
    std::conditional_t<same_for_all, typename correction::shared, no_shared> corrections;
  };

  query_tokens<Scalar, Out> queries;
  listed_keys<Scalar>       far   = {};
  near_keys<Scalar>         near  = {};
  other_softmax             other = {};
  float                     scale;  // times log2(e)

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t group() const { return queries.q.heads / queries.kv_heads; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tiles_of_chunk() const {
    const index_t slice = queries.last - queries.first, places = slice < queries.chunk ? slice : queries.chunk;
    return (places * group() + tile - 1) / tile;
  }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t chunks() const {
    return (queries.last - 1) / queries.chunk - queries.first / queries.chunk + 1;
  }
  index_t grid() const { return chunks() * tiles_of_chunk() * queries.kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (queries.valid && *queries.valid < 0) return;
    auto& memory = gpu.template shared<shared>();
    // The last tiles have the most keys: they start first.
    const index_t place = gpu.block() / queries.kv_heads, per_chunk = tiles_of_chunk();
    const index_t turn  = chunks() * per_chunk - 1 - place;
    walk          now   = {far, near, gpu.uniform(gpu.block() % queries.kv_heads),
                           gpu.uniform(queries.first / queries.chunk + turn / per_chunk)};
    const index_t opens = now.field * queries.chunk, begin = opens < queries.first ? queries.first : opens;
    const index_t asked = queries.list ? gpu.uniform(queries.count[now.field]) : queries.q.tokens - opens;
    const index_t close = opens + (asked < queries.chunk ? asked : queries.chunk);
    const index_t first = turn % per_chunk * tile;
    const index_t rows  = ((close < queries.last ? close : queries.last) - begin) * group();
    if (first >= rows) return;

    const index_t wanted = first + 32 * gpu.wave() + gpu.lane() % 32;
    const index_t row    = wanted < rows ? wanted : rows - 1;
    const index_t head   = now.kv_head * group() + row % group();
    const index_t token  = queries.list ? queries.list[begin + row / group()] : begin + row / group();
    const index_t final  = begin + ((first + tile < rows ? first + tile : rows) - 1) / group();  // of the tile
    const index_t answer = queries.answers ? queries.answers[begin + row / group()] : token;
    now.begin(gpu, opens, begin + first / group(), final, queries.q.tokens);
    if (!tiles::ahead) now.near_whole = now.far_whole = 0;  // no registers for loops of their own

    memory.position[gpu.thread()] = begin + row / group();
    memory.target[gpu.thread()]   = wanted < rows ? 2 * (answer * queries.out.heads + head) + gpu.lane() / 32 : -1;
    summed  state;
    vector8 query[Dim / 16];
    load_query(gpu, queries.q.row(token, head), query);
    if constexpr (same_for_all)
      if (corrects() && now.far_count > 0)
        memory.corrections.queries[gpu.thread()] = correction{far.variances}.measure(gpu, query);
    attend_all(gpu, memory, now, query, state);
    const float   sum    = state.sum + gpu.shuffle(state.sum, gpu.lane() ^ 32);  // each half has seen half of the keys
    const index_t target = memory.target[tiles::thread_of(gpu)];
    if (target >= 0) write(gpu, state, sum, target / 2, target % 2);
  }

 private:
  using summed  = softmax<Scalar, Dim>;
  using carried = typename tiles::carried;
  using walk    = key_walk<Scalar>;

  CASCADA_DEVICE CASCADA_INLINE bool corrects() const { return far.variances.rows; }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load_query(Gpu& gpu, const Scalar* row, vector8 (&query)[Dim / 16]) const {
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) query[s] = load_8(row + 16 * s + gpu.lane() / 32 * 8);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void attend_all(Gpu& gpu, shared& memory, const walk& now,
                                                const vector8 (&query)[Dim / 16], summed& state) const {
    if constexpr (tiles::ahead) {
      if (now.near_whole > 0)
        attend_whole<false>(gpu, memory, now, now.near_whole,
                            typename tiles::adjacent(gpu, near.rows, now.kv_head, now.from), query, state);
      if (now.far_whole > 0)
        attend_whole<true>(gpu, memory, now, now.far_whole,
                           typename tiles::listed(gpu, far.rows, now.kv_head, now.list()), query, state);
    }
    if (now.masked() > 0) attend_masked(gpu, memory, now, now.masked(), query, state);
  }

  /// Tiles without masks: the loops that long sequences spend their time in.
  template <bool Listed, class Gpu, class Reader>
  CASCADA_DEVICE CASCADA_INLINE void attend_whole(Gpu& gpu, shared& memory, const walk& now, index_t count,
                                                  Reader  reader, const vector8 (&query)[Dim / 16],
                                                  summed& state) const {
    carried next;
    reader.fetch(gpu, next, count > 1);
    leaf_terms terms = {};
    if constexpr (Listed) terms = terms_of(gpu, now, {true, 0, now.far_count});
#pragma GCC unroll 1
    for (index_t i = 0; i < count; ++i) {
      tiles::stage_keys(gpu, memory.tile, next);
      tiles::stage_values(gpu, memory.tile, next);
      if constexpr (Listed) stage_terms(gpu, memory, terms);
      gpu.barrier();
      reader.fetch(gpu, next, i + 2 < count);
      sums_16 logits = {};
      if constexpr (Listed) {
        terms  = terms_of(gpu, now, {true, keys * (i + 1), now.far_count});
        logits = count_keys(gpu, memory, {true, keys * i, now.far_count});
      }
      multiply_keys(gpu, memory, query, logits);
      fragment weights[keys / 8] = {};
      state.take_in(gpu, logits, scale, weights);
      multiply_values(gpu, memory, weights, state);
      gpu.barrier();
    }
  }

  /// Any tiles: of the list, and those near of which some query sees a part.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void attend_masked(Gpu& gpu, shared& memory, const walk& now, index_t count,
                                                   const vector8 (&query)[Dim / 16], summed& state) const {
    carried    next;
    leaf_terms terms = {};
    if constexpr (tiles::ahead) {
      fetch_keys(gpu, now, now.tile_at(0), next, terms);
      fetch_values(gpu, now, now.tile_at(0), next);
    }
#pragma GCC unroll 1
    for (index_t i = 0; i < count; ++i) {
      if constexpr (!tiles::ahead) fetch_keys(gpu, now, now.tile_at(i), next, terms);
      tiles::stage_keys(gpu, memory.tile, next);
      stage_terms(gpu, memory, terms);
      if constexpr (!tiles::ahead) fetch_values(gpu, now, now.tile_at(i), next);
      tiles::stage_values(gpu, memory.tile, next);
      gpu.barrier();
      if constexpr (tiles::ahead) {
        const key_tile following = now.tile_at(i + 1 < count ? i + 1 : i);
        fetch_keys(gpu, now, following, next, terms);
        fetch_values(gpu, now, following, next);
      }
      const key_tile own    = now.tile_at(i);
      sums_16        logits = count_keys(gpu, memory, own);
      multiply_keys(gpu, memory, query, logits);
      mask(gpu, memory, now, own, logits);
      fragment weights[keys / 8] = {};
      state.take_in(gpu, logits, scale, weights);
      multiply_values(gpu, memory, weights, state);
      gpu.barrier();
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void fetch_keys(Gpu& gpu, const walk& now, const key_tile& from, carried& next,
                                                leaf_terms& terms) const {
    typename tiles::key_rows at;
    now.rows_of(from, tiles::part_of(gpu).key, tiles::key_step, at.row);
    tiles::fetch_keys(gpu, from.listed ? far.rows : near.rows, now.kv_head, at, next);
    terms = terms_of(gpu, now, from);
  }

  /// Of key `thread`.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE leaf_terms terms_of(Gpu& gpu, const walk& now, const key_tile& from) const {
    return same_for_all && gpu.thread() < keys ? now.terms_of(gpu, from, gpu.thread()) : leaf_terms{};
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void stage_terms(Gpu& gpu, shared& memory, const leaf_terms& terms) const {
    if constexpr (same_for_all) {
      const index_t thread = tiles::thread_of(gpu);
      if (thread >= keys) return;
      memory.bias[thread] = terms.bias;
      if (corrects()) store_8(memory.corrections.variances + thread * variance_parts, terms.variances);
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void fetch_values(Gpu& gpu, const walk& now, const key_tile& from,
                                                  carried& next) const {
    typename tiles::value_rows at;
#pragma GCC unroll 2
    for (index_t l = 0; l < tiles::value_rounds; ++l)
      now.rows_of(from, tiles::part_of(gpu).value + tiles::value_step * l, 1, at.row[l]);
    tiles::fetch_values(gpu, from.listed ? far.rows : near.rows, now.kv_head, at, next);
  }

  /// What the products are added to.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 count_keys(Gpu& gpu, const shared& memory, const key_tile& own) const {
    sums_16      logs = {};
    const float* from = memory.bias;
    if constexpr (!same_for_all) {
      if (!own.listed) return logs;
      from = far.counts.row(memory.position[gpu.thread()] - queries.first) + own.first;
    } else {
      if (corrects() && own.listed)
        logs = correction{far.variances}.correct(gpu, memory.corrections, tiles::thread_of(gpu));
    }
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) logs[v] += from[row_32(gpu.lane(), v)];
    return logs;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply_keys(Gpu& gpu, const shared& memory, const vector8 (&query)[Dim / 16],
                                                   sums_16& logits) const {
    const std::uint16_t* const row = memory.tile.key + gpu.lane() % 32 * tiles::key_pitch + gpu.lane() / 32 * 8;
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) {
      const vector8 key = load_8(row + 16 * s);
      logits            = gpu.template mfma_32x32x8<Scalar>(low(key), low(query[s]), logits);
      logits            = gpu.template mfma_32x32x8<Scalar>(high(key), high(query[s]), logits);
      if (!tiles::ahead && s % 2 == 1) gpu.schedule_barrier();  // few fragments at a time, for want of registers
    }
  }

  /// Keys that a query does not see weigh nothing.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void mask(Gpu& gpu, const shared& memory, const walk& now, const key_tile& own,
                                          sums_16& logits) const {
    const index_t seen = now.seen(own, memory.position[gpu.thread()]);
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v)
      logits[v] = row_32(gpu.lane(), v) < seen ? logits[v] : -std::numeric_limits<float>::infinity();
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply_values(Gpu& gpu, const shared&                      memory,
                                                     const fragment (&weights)[keys / 8], summed& state) const {
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) {
      const std::uint16_t* const row =
          memory.tile.value + (32 * t + gpu.lane() % 32) * tiles::value_pitch + gpu.lane() / 32 * 8;
#pragma GCC unroll 2
      for (index_t s = 0; s < keys / 16; ++s) {
        const vector8 value = load_8(row + 16 * s);
        state.out[t]        = gpu.template mfma_32x32x8<Scalar>(low(value), weights[2 * s], state.out[t]);
        state.out[t]        = gpu.template mfma_32x32x8<Scalar>(high(value), weights[2 * s + 1], state.out[t]);
      }
      if (!tiles::ahead) gpu.schedule_barrier();
    }
  }

  /// One half of an answer: the average, merged with that of the other softmax by log-sum-exp.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void write(Gpu& gpu, const summed& state, float sum, index_t place,
                                           index_t half) const {
    constexpr float    lowest = -std::numeric_limits<float>::infinity();
    const index_t      token = place / queries.out.heads, head = place % queries.out.heads;
    const std::int64_t row = std::int64_t{other.rows ? other.rows[token] : token} * queries.out.heads + head;
    const float        own = state.top_logit(scale), theirs = other.out ? other.log_sums[row] : lowest;
    const float        top = __builtin_fmaxf(own, theirs), reference = top == lowest ? 0.0f : top;
    const float        share = gpu.exp2(own - reference), others = gpu.exp2(theirs - reference);
    const float        total = sum * share + others, inverse = total == 0 ? 0.0f : 1.0f / total;
    Out* const         to = queries.out.row(token, head);
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) {
      sums_16 part = state.out[t] * (share * inverse);
      if (other.out)
#pragma GCC unroll 16
        for (index_t v = 0; v < 16; ++v)
          part[v] += others * inverse * other.out[row * Dim + 32 * t + row_32(32 * half, v)];
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) to[32 * t + row_32(32 * half, v)] = from_float<Out>(part[v]);
    }
    if (queries.log_sums && half == 0) queries.log_sums[place] = top + (total == 0 ? 0.0f : gpu.log2(total));
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
