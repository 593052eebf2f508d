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

#include "cascada/hip/attend_operands.hpp"

namespace cascada::hip {

/// How keys of the list count: each the same for all queries, or as pair_counts says.
struct counts_of_keys {};
struct counts_of_pairs {};

template <matrix_scalar Scalar, row_scalar Out, index_t Dim, class Counts = counts_of_keys>
struct attend {
  static constexpr index_t threads     = 256;
  static constexpr index_t waves       = 2;
  static constexpr index_t keys        = 32;  // at a time
  static constexpr index_t tile        = 128;
  static constexpr index_t key_pitch   = Dim + 8;   // rows 4 banks apart, modulo all: 8 lanes meet no bank twice
  static constexpr index_t value_pitch = keys + 8;  // rows 20 banks apart: the same

  struct shared {
    alignas(16) std::uint16_t key[keys * key_pitch];       // [key, dim]
    alignas(16) std::uint16_t value[Dim * value_pitch];    // [dim, place_of(key)]
    float                     bias[keys];
    // Of each lane, kept here for want of registers: its query's place among the tokens that ask; where the answer goes,
    // 2 (token heads + head) + half of the wave, or -1.
    index_t                   position[threads];
    index_t                   target[threads];
  };

  query_tokens<Scalar, Out> queries;
  listed_keys<Scalar>       far;
  near_keys<Scalar>         near;
  other_softmax             other;
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
    auto&         memory = gpu.template shared<shared>();
    // The last tiles have the most keys: they start first.
    const index_t place = gpu.block() / queries.kv_heads, tiles = tiles_of_chunk();
    const index_t turn  = chunks() * tiles - 1 - place;
    walk          now   = {};
    now.kv_head         = gpu.block() % queries.kv_heads;
    now.chunk           = queries.first / queries.chunk + turn / tiles;
    const index_t opens = now.chunk * queries.chunk, begin = opens < queries.first ? queries.first : opens;
    const index_t asked = queries.list ? queries.count[now.chunk] : queries.q.tokens - opens;
    const index_t close = opens + (asked < queries.chunk ? asked : queries.chunk);
    const index_t first = turn % tiles * tile;
    const index_t rows  = ((close < queries.last ? close : queries.last) - begin) * group();
    if (first >= rows) return;

    const index_t wanted = first + 32 * gpu.wave() + gpu.lane() % 32;
    const index_t row    = wanted < rows ? wanted : rows - 1;
    const index_t head   = now.kv_head * group() + row % group();
    const index_t token  = queries.list ? queries.list[begin + row / group()] : begin + row / group();
    const index_t final  = begin + ((first + tile < rows ? first + tile : rows) - 1) / group();  // of the tile
    const index_t answer = queries.answers ? queries.answers[begin + row / group()] : token;
    now.from             = near.unlimited || opens < near.window ? 0 : opens - near.window;
    now.far_count        = far.count ? far.count[far.stride > 0 ? now.chunk : 0] : 0;
    now.near_count       = !near.exists ? 0 : (near.causal ? final + 1 : queries.q.tokens) - now.from;
    const index_t by_all = near.causal ? begin + first / group() + 1 - now.from : now.near_count;
    now.whole            = ahead && near.exists && by_all > 0 ? by_all / keys : 0;

    memory.position[gpu.thread()] = begin + row / group();
    memory.target[gpu.thread()]   = wanted < rows ? 2 * (answer * queries.out.heads + head) + gpu.lane() / 32 : -1;
    softmax state;
    vector8 query[Dim / 16];
    load_query(gpu, queries.q.row(token, head), query);
    attend_all(gpu, memory, now, query, state);
    const float sum = state.sum + gpu.shuffle(state.sum, gpu.lane() ^ 32);  // each half has seen half of the keys
    gpu.barrier();
    const index_t target = memory.target[gpu.thread()];
    if (target >= 0) write(gpu, state, sum, target / 2, target % 2);
  }

 private:
  /// The keys that a tile reads: near tiles that all its queries see whole, then those of the list, then others near.
  struct walk {
    index_t kv_head, chunk, from, near_count, far_count, whole;
  };

  /// One query's softmax so far: O^T, the largest logit, the sum of this half's exponentials.
  struct softmax {
    sums_16 out[Dim / 32] = {};
    float   top           = -std::numeric_limits<float>::infinity();
    float   sum           = 0;

    /// What exponents are relative to, also while the query has seen no key yet.
    CASCADA_DEVICE CASCADA_INLINE float reference() const {
      return top == -std::numeric_limits<float>::infinity() ? 0.0f : top;
    }
  };

  /// 32 keys of one kind.
  struct key_tile {
    bool    listed;
    index_t first, count;  // places of its keys: from `first` on, below `count`
  };

  /// What a thread carries from global to shared memory for the next tile.
  static constexpr index_t key_loads    = keys * Dim / 8 / threads;
  static constexpr index_t value_quads  = keys / 4 * (Dim / 4);  // 4 keys x 4 of dim each
  static constexpr index_t value_rounds = (value_quads + threads - 1) / threads;
  static constexpr bool    ahead        = Dim <= 128;  // 256 leave no registers to carry a tile during another
  struct carried {
    vector8  key[key_loads];
    fragment value[value_rounds][4];
    float    bias;
  };

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load_query(Gpu& gpu, const Scalar* row, vector8 (&query)[Dim / 16]) const {
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) query[s] = load_8(row + 16 * s + gpu.lane() / 32 * 8);
  }

  CASCADA_DEVICE CASCADA_INLINE key_tile tile_at(const walk& now, index_t i) const {
    const index_t listed = (now.far_count + keys - 1) / keys;
    return i < listed ? key_tile{true, keys * i, now.far_count} : key_tile{false, keys * (i - listed + now.whole), now.near_count};
  }

  /// Row numbers of places first + k of a tile for `Count` k, `step` apart; beyond the last key the last one again,
  /// whose logits nobody looks at.
  template <index_t Count>
  CASCADA_DEVICE CASCADA_INLINE void rows_of(const walk& now, const key_tile& from, index_t k, index_t step,
                                             index_t (&row)[Count]) const {
#pragma GCC unroll 8
    for (index_t i = 0; i < Count; ++i) {
      const index_t place = from.first + k + step * i;
      row[i]              = place < from.count ? place : from.count - 1;
    }
    if (from.listed) {
      const index_t* const list = far.list + far.stride * now.chunk;
#pragma GCC unroll 8
      for (index_t i = 0; i < Count; ++i) row[i] = list[row[i]];
    } else {
#pragma GCC unroll 8
      for (index_t i = 0; i < Count; ++i) row[i] += now.from;
    }
  }

  // Of the tile, thread t carries elements 8 (t % (Dim / 8)).. of every key_step-th key, and of every value_step-th
  // four keys a square of 4 x 4.
  static constexpr index_t key_step   = threads / (Dim / 8);
  static constexpr index_t value_step = 4 * threads / (Dim / 4);

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void fetch_keys(Gpu& gpu, const walk& now, const key_tile& from,
                                                carried& next) const {
    const operand_rows<Scalar>& rows = from.listed ? far.rows : near.rows;
    index_t                     row[key_loads];
    rows_of(now, from, gpu.thread() / (Dim / 8), key_step, row);
    const Scalar* const keys_of_head = rows.keys + now.kv_head * rows.key_head + gpu.thread() % (Dim / 8) * 8;
#pragma GCC unroll 4
    for (index_t l = 0; l < key_loads; ++l) next.key[l] = load_8(keys_of_head + row[l] * rows.key_row);
    next.bias = 0;
    if (from.listed && far.offsets && gpu.thread() < keys) {
      index_t last[1];
      rows_of(now, from, gpu.thread(), 1, last);
      const index_t place = from.first + gpu.thread() < from.count ? from.first + gpu.thread() : from.count - 1;
      next.bias           = gpu.log2(static_cast<float>(last[0] - far.offsets[place] + 1)) / scale;
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void fetch_values(Gpu& gpu, const walk& now, const key_tile& from,
                                                  carried& next) const {
    const operand_rows<Scalar>& rows           = from.listed ? far.rows : near.rows;
    const index_t       square         = gpu.thread() % value_quads;
    const Scalar* const values_of_head = rows.values + now.kv_head * rows.value_head + square % (Dim / 4) * 4;
#pragma GCC unroll 2
    for (index_t l = 0; l < value_rounds; ++l) {
      index_t value_row[4];
      rows_of(now, from, square / (Dim / 4) * 4 + value_step * l, 1, value_row);
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e)
        __builtin_memcpy(&next.value[l][e],
                         __builtin_assume_aligned(values_of_head + value_row[e] * rows.value_row, 8), sizeof(fragment));
    }
  }

  /// Where key k lies within a row of V^T: a lane's 8 keys of two steps, 8 s + 4 half + 0..3, side by side.
  CASCADA_DEVICE CASCADA_INLINE static constexpr index_t place_of(index_t k) {
    return k / 16 * 16 + k / 4 % 2 * 8 + k / 8 % 2 * 4 + k % 4;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void stage_keys(Gpu& gpu, shared& memory, const carried& next) const {
    std::uint16_t* const key = memory.key + gpu.thread() / (Dim / 8) * key_pitch + gpu.thread() % (Dim / 8) * 8;
#pragma GCC unroll 4
    for (index_t l = 0; l < key_loads; ++l) store_8(key + key_step * key_pitch * l, next.key[l]);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void stage_values(Gpu& gpu, shared& memory, const carried& next) const {
    const index_t        square = gpu.thread() % value_quads;
    std::uint16_t* const value =
        memory.value + square % (Dim / 4) * 4 * value_pitch + place_of(square / (Dim / 4) * 4);
#pragma GCC unroll 2
    for (index_t l = 0; l < value_rounds; ++l) {
      static_assert(value_rounds == 1 || value_step == 16, "place_of(k + 16) = place_of(k) + 16");
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) {  // a 4 x 4 transposition in registers
        const fragment column = {next.value[l][0][e], next.value[l][1][e], next.value[l][2][e], next.value[l][3][e]};
        __builtin_memcpy(__builtin_assume_aligned(value + e * value_pitch + 16 * l, 8), &column, sizeof(column));
      }
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void attend_all(Gpu& gpu, shared& memory, const walk& now,
                                                const vector8 (&query)[Dim / 16], softmax& state) const {
    if constexpr (ahead) attend_whole(gpu, memory, now, query, state);
    const index_t tiles = (now.far_count + keys - 1) / keys + (now.near_count + keys - 1) / keys - now.whole;
    if (tiles == 0) return;
    carried next;
    const auto fetch = [&](index_t i) {
      fetch_keys(gpu, now, tile_at(now, i), next);
      fetch_values(gpu, now, tile_at(now, i), next);
    };
    if constexpr (ahead) fetch(0);
#pragma GCC unroll 1
    for (index_t i = 0; i < tiles; ++i) {
      if constexpr (!ahead) fetch_keys(gpu, now, tile_at(now, i), next);
      stage_keys(gpu, memory, next);
      if (gpu.thread() < keys) memory.bias[gpu.thread()] = next.bias;
      if constexpr (!ahead) fetch_values(gpu, now, tile_at(now, i), next);
      stage_values(gpu, memory, next);
      gpu.barrier();
      if constexpr (ahead) fetch(i + 1 < tiles ? i + 1 : i);
      const key_tile own = tile_at(now, i);
      sums_16        logits = count_keys(gpu, memory, now, own);
      multiply_keys(gpu, memory, query, logits);
      const bool     causal = own.listed ? far.causal : near.causal;
      const index_t  position = memory.position[gpu.thread()];
      const index_t  limit  = !causal ? own.count : position - (own.listed ? 0 : now.from) + 1;
      const index_t  seen   = limit < own.count ? limit : own.count;
      fragment       weights[keys / 8] = {};
      update(gpu, logits, seen - own.first, state, weights);
      multiply_values(gpu, memory, weights, state);
      gpu.barrier();
    }
  }

  /// Near tiles without masks and counts: the loop that long sequences spend their time in.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void attend_whole(Gpu& gpu, shared& memory, const walk& now,
                                                  const vector8 (&query)[Dim / 16], softmax& state) const {
    if (now.whole == 0) return;
    // Addresses: a tile's, the same for all threads, and a thread's within it.
    const operand_rows<Scalar>& rows = near.rows;
    const Scalar*   key    = rows.keys + now.kv_head * rows.key_head + now.from * rows.key_row;
    const Scalar*   value  = rows.values + now.kv_head * rows.value_head + now.from * rows.value_row;
    const auto      square = gpu.thread() % value_quads;
    std::uint32_t   key_at[key_loads], value_at[value_rounds][4];
#pragma GCC unroll 4
    for (index_t l = 0; l < key_loads; ++l)
      key_at[l] = offset(gpu.thread() / (Dim / 8) + key_step * l, rows.key_row, gpu.thread() % (Dim / 8) * 8);
#pragma GCC unroll 2
    for (index_t l = 0; l < value_rounds; ++l)
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e)
        value_at[l][e] = offset(square / (Dim / 4) * 4 + value_step * l + e, rows.value_row, square % (Dim / 4) * 4);
    carried    next;
    const auto fetch = [&] {
#pragma GCC unroll 4
      for (index_t l = 0; l < key_loads; ++l) next.key[l] = load_8(key + key_at[l]);
#pragma GCC unroll 2
      for (index_t l = 0; l < value_rounds; ++l)
#pragma GCC unroll 4
        for (index_t e = 0; e < 4; ++e)
          __builtin_memcpy(&next.value[l][e], __builtin_assume_aligned(value + value_at[l][e], 8), sizeof(fragment));
    };
    fetch();
#pragma GCC unroll 1
    for (index_t left = now.whole; left > 0; --left) {
      stage_keys(gpu, memory, next);
      stage_values(gpu, memory, next);
      gpu.barrier();
      const bool more = left > 1;
      key += more ? keys * rows.key_row : 0, value += more ? keys * rows.value_row : 0;
      fetch();
      sums_16 logits = {};
      multiply_keys(gpu, memory, query, logits);
      fragment weights[keys / 8] = {};
      update_whole(gpu, logits, state, weights);
      multiply_values(gpu, memory, weights, state);
      gpu.barrier();
    }
  }

  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t offset(index_t row, std::int64_t stride, index_t column) {
    return static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(stride) + static_cast<std::uint32_t>(column);
  }

  /// As update, for keys that all count.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void update_whole(Gpu& gpu, const sums_16& logits, softmax& state,
                                                  fragment (&weights)[keys / 8]) const {
    float top = logits[0];
#pragma GCC unroll 15
    for (index_t v = 1; v < 16; ++v) top = __builtin_fmaxf(top, logits[v]);
    raise(gpu, __builtin_fmaxf(top, gpu.shuffle(top, gpu.lane() ^ 32)) * scale, state);
    const sums_16 powers = logits * scale - state.reference();
    sums_16       all;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      all[v]                = gpu.exp2(powers[v]);
      weights[v / 4][v % 4] = narrow(all[v]);
    }
    state.sum += sum_of(all);
  }

  /// In halves: two sums to an instruction.
  CASCADA_DEVICE CASCADA_INLINE static float sum_of(const sums_16& all) {
    using eight = float __attribute__((vector_size(32)));
    using two   = float __attribute__((vector_size(8)));
    const eight  by_8 = __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
    const sums_4 by_4 = __builtin_shufflevector(by_8, by_8, 0, 1, 2, 3) + __builtin_shufflevector(by_8, by_8, 4, 5, 6, 7);
    const two    by_2 = __builtin_shufflevector(by_4, by_4, 0, 1) + __builtin_shufflevector(by_4, by_4, 2, 3);
    return by_2[0] + by_2[1];
  }

  /// The largest logit so far becomes `top` if that is larger; what was summed shrinks.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void raise(Gpu& gpu, float top, softmax& state) const {
    const float before = state.top;
    state.top          = __builtin_fmaxf(before, top);
    if (gpu.ballot(state.top != before) == 0) return;
    const float shrink = gpu.exp2(before - state.reference());
    state.sum *= shrink;
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) state.out[t] *= shrink;
  }

  /// What the products are added to.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 count_keys(Gpu& gpu, const shared& memory, const walk& now,
                                                   const key_tile& own) const {
    sums_16      logs = {};
    const float* from = memory.bias;
    if constexpr (std::same_as<Counts, counts_of_pairs>) {
      if (!own.listed) return logs;
      from = far.counts.row(memory.position[gpu.thread()] - queries.first, now.kv_head) + own.first;
    }
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) logs[v] = from[row_32(gpu.lane(), v)];
    return logs;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply_keys(Gpu& gpu, const shared& memory, const vector8 (&query)[Dim / 16],
                                                   sums_16& logits) const {
    const std::uint16_t* const row = memory.key + gpu.lane() % 32 * key_pitch + gpu.lane() / 32 * 8;
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) {
      const vector8 key = load_8(row + 16 * s);
      logits            = gpu.template mfma_32x32x8<Scalar>(low(key), low(query[s]), logits);
      logits            = gpu.template mfma_32x32x8<Scalar>(high(key), high(query[s]), logits);
      if (!ahead && s % 2 == 1) gpu.schedule_barrier();  // few fragments at a time, for want of registers
    }
  }

  /// The nearest Scalar of a weight in [0, 1], ties upwards; NaN stays.
  CASCADA_DEVICE CASCADA_INLINE static std::uint16_t narrow(float weight) {
    if constexpr (std::same_as<Scalar, bfloat16>)
      return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(weight) + 0x8000u) >> 16);
    else
      return from_float<float16>(weight).bits;
  }

  /// Takes in 32 logits: keys before `seen` count. Weights come out as the operand of the second product.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void update(Gpu& gpu, sums_16& logits, index_t seen, softmax& state,
                                            fragment (&weights)[keys / 8]) const {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    float           top    = lowest;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const index_t k     = row_32(gpu.lane(), v);
      logits[v]           = k < seen ? logits[v] * scale : lowest;
      top                 = __builtin_fmaxf(top, logits[v]);
      if (!ahead && v % 4 == 3) gpu.schedule_barrier();
    }
    raise(gpu, __builtin_fmaxf(top, gpu.shuffle(top, gpu.lane() ^ 32)), state);
    const float reference = state.reference();
#pragma GCC unroll 4
    for (index_t s = 0; s < keys / 8; ++s)
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) {
        const float weight = gpu.exp2(logits[4 * s + e] - reference);
        state.sum += weight;
        weights[s][e] = narrow(weight);
        if (!ahead && e == 3) gpu.schedule_barrier();
      }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply_values(Gpu& gpu, const shared& memory,
                                                     const fragment (&weights)[keys / 8], softmax& state) const {
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) {
      const std::uint16_t* const row =
          memory.value + (32 * t + gpu.lane() % 32) * value_pitch + gpu.lane() / 32 * 8;
#pragma GCC unroll 2
      for (index_t s = 0; s < keys / 16; ++s) {
        const vector8 value = load_8(row + 16 * s);
        state.out[t]        = gpu.template mfma_32x32x8<Scalar>(low(value), weights[2 * s], state.out[t]);
        state.out[t]        = gpu.template mfma_32x32x8<Scalar>(high(value), weights[2 * s + 1], state.out[t]);
      }
      if (!ahead) gpu.schedule_barrier();
    }
  }

  /// One half of an answer: the average, merged with that of the other softmax by log-sum-exp.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void write(Gpu& gpu, const softmax& state, float sum, index_t place,
                                           index_t half) const {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    const index_t   token = place / queries.out.heads, head = place % queries.out.heads;
    const std::int64_t row = std::int64_t{other.rows ? other.rows[token] : token} * queries.out.heads + head;
    const float        theirs = other.out ? other.log_sums[row] : lowest, top = __builtin_fmaxf(state.top, theirs);
    const float        reference = top == lowest ? 0.0f : top;
    const float        share = gpu.exp2(state.top - reference), others = gpu.exp2(theirs - reference);
    const float        total = sum * share + others, inverse = total == 0 ? 0.0f : 1.0f / total;
    Out* const         to    = queries.out.row(token, head);
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

}  // namespace cascada::hip
