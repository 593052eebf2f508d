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

#include "cascada/hip/cluster.hpp"

namespace cascada::hip {

/// Keys and values in device memory: row i of head h at data + h head_stride + i row_stride.
template <class Scalar>
struct operand_rows {
  const Scalar* keys;
  const Scalar* values;
  std::int64_t  key_row, key_head, value_row, value_head;
};

/// Keys that a chunk of queries reads through a list: clusters, or representatives.
template <class Scalar>
struct listed_keys {
  operand_rows<Scalar> rows;
  const index_t*       list;     // [chunks, T], or [r] for all
  const index_t*       count;    // [chunks], or [1]; null: no such keys
  const index_t*       offsets;  // null, or row - offsets[place] + 1 is the cluster's size, whose log2 is added
  std::int64_t         stride;   // of the list, from chunk to chunk
  bool                 causal;   // place k sees places up to k
};

/// Keys that follow each other: [from, T) of the tokens.
template <class Scalar>
struct near_keys {
  operand_rows<Scalar> rows;
  index_t              window;    // from = begin of the chunk - window, at least 0
  bool                 unlimited;  // from = 0
  bool                 causal;     // token t sees tokens up to t
  bool                 exists;
};

/// Which tokens ask, and where their answers go.
template <class Scalar, class Out>
struct query_tokens {
  heads_view<const Scalar> q;
  heads_view<Out>          out;
  const index_t*           list;     // null: all tokens
  const index_t*           answers;  // null: the same, or the tokens whose output it is
  const index_t*           count;    // [1] with list
  const index_t*           valid;    // null, or [1]: negative, the selection has failed and nothing is written
  index_t                  kv_heads, chunk;
};

template <matrix_scalar Scalar, row_scalar Out, index_t Dim>
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
  float                     scale;  // times log2(e)

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t group() const { return queries.q.heads / queries.kv_heads; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tiles_of_chunk() const {
    return (queries.chunk * group() + tile - 1) / tile;
  }
  index_t grid() const {
    return (queries.q.tokens + queries.chunk - 1) / queries.chunk * tiles_of_chunk() * queries.kv_heads;
  }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (queries.valid && *queries.valid < 0) return;
    auto&         memory = gpu.template shared<shared>();
    const index_t asked  = queries.list ? *queries.count : queries.q.tokens;
    // The last tiles have the most keys: they start first.
    const index_t place   = (gpu.block() / queries.kv_heads), tiles = tiles_of_chunk();
    const index_t last    = (queries.q.tokens + queries.chunk - 1) / queries.chunk * tiles - 1 - place;
    walk          now     = {};
    now.kv_head           = gpu.block() % queries.kv_heads;
    now.chunk             = last / tiles;
    const index_t begin   = now.chunk * queries.chunk, first = last % tiles * tile;
    const index_t members = asked - begin < queries.chunk ? asked - begin : queries.chunk;
    const index_t rows    = members * group();
    if (first >= rows) return;

    const index_t wanted = first + 32 * gpu.wave() + gpu.lane() % 32;
    const index_t row    = wanted < rows ? wanted : rows - 1;
    const index_t head   = now.kv_head * group() + row % group();
    const index_t token  = queries.list ? queries.list[begin + row / group()] : begin + row / group();
    const index_t final  = begin + ((first + tile < rows ? first + tile : rows) - 1) / group();  // of the tile
    const index_t answer = queries.answers ? queries.answers[begin + row / group()] : token;
    now.from             = near.unlimited || begin < near.window ? 0 : begin - near.window;
    now.near_count       = !near.exists ? 0 : (near.causal ? final + 1 : queries.q.tokens) - now.from;
    now.far_count        = far.count ? far.count[far.stride > 0 ? now.chunk : 0] : 0;

    memory.position[gpu.thread()] = begin + row / group();
    memory.target[gpu.thread()]   = wanted < rows ? 2 * (answer * queries.out.heads + head) + gpu.lane() / 32 : -1;
    softmax state;
    vector8 query[Dim / 16];
    load_query(gpu, queries.q.row(token, head), query);
    attend_all(gpu, memory, now, query, state);
    const float sum = state.sum + gpu.shuffle(state.sum, gpu.lane() ^ 32);  // each half has seen half of the keys
    gpu.barrier();
    const index_t target = memory.target[gpu.thread()], place_out = target / 2;
    if (target >= 0)
      write(state, sum, queries.out.row(place_out / queries.out.heads, place_out % queries.out.heads), target % 2);
  }

 private:
  /// The keys that a tile reads: first those of the list, then those near.
  struct walk {
    index_t kv_head, chunk, from, near_count, far_count;
  };

  /// One query's softmax so far: O^T, the largest logit, the sum of this half's exponentials.
  struct softmax {
    sums_16 out[Dim / 32] = {};
    float   top           = -std::numeric_limits<float>::infinity();
    float   sum           = 0;
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
    return i < listed ? key_tile{true, keys * i, now.far_count} : key_tile{false, keys * (i - listed), now.near_count};
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
      next.bias           = gpu.log2(static_cast<float>(last[0] - far.offsets[place] + 1));
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
    if (gpu.thread() < keys) memory.bias[gpu.thread()] = next.bias;
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
    const index_t tiles = (now.far_count + keys - 1) / keys + (now.near_count + keys - 1) / keys;
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
      if constexpr (!ahead) fetch_values(gpu, now, tile_at(now, i), next);
      stage_values(gpu, memory, next);
      gpu.barrier();
      if constexpr (ahead) fetch(i + 1 < tiles ? i + 1 : i);
      sums_16 logits = {};
      multiply_keys(gpu, memory, query, logits);
      const key_tile own = tile_at(now, i);
      const bool     causal = own.listed ? far.causal : near.causal;
      const index_t  position = memory.position[gpu.thread()];
      const index_t  limit  = !causal ? own.count : position - (own.listed ? 0 : now.from) + 1;
      const index_t  seen   = limit < own.count ? limit : own.count;
      fragment       weights[keys / 8] = {};
      update(gpu, memory, logits, seen - own.first, state, weights);
      multiply_values(gpu, memory, weights, state);
      gpu.barrier();
    }
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
  CASCADA_DEVICE CASCADA_INLINE void update(Gpu& gpu, const shared& memory, sums_16& logits, index_t seen,
                                            softmax& state, fragment (&weights)[keys / 8]) const {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    float           top    = state.top;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const index_t k     = row_32(gpu.lane(), v);
      const float   logit = __builtin_fmaf(logits[v], scale, memory.bias[k]);
      logits[v]           = k < seen ? logit : lowest;
      top                 = __builtin_fmaxf(top, logits[v]);
      if (!ahead && v % 4 == 3) gpu.schedule_barrier();
    }
    top = __builtin_fmaxf(top, gpu.shuffle(top, gpu.lane() ^ 32));
    const float reference = top == lowest ? 0.0f : top;  // a query that has seen no key yet
    const float shrink    = gpu.exp2(state.top - reference);
    if (gpu.ballot(top != state.top) != 0) {
      state.sum *= shrink;
#pragma GCC unroll 8
      for (index_t t = 0; t < Dim / 32; ++t) state.out[t] *= shrink;
    }
    state.top = top;
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

  CASCADA_DEVICE CASCADA_INLINE void write(const softmax& state, float sum, Out* row, index_t half) const {
    const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t)
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v)
        row[32 * t + row_32(32 * half, v)] = from_float<Out>(state.out[t][v] * inverse);
  }
};

/// Every token copies its representative's output.
template <row_scalar Out>
struct lift {
  using shared                     = no_shared;
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = 1;

  selection_layer layer;
  heads_view<Out> out;

  index_t grid() const { return out.tokens; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*layer.count < 0) return;
    const index_t token = gpu.block(), rep = layer.rep[token];
    if (rep == token) return;
    for (index_t i = gpu.thread(); i < out.heads * out.dim; i += threads)
      out.row(token, i / out.dim)[i % out.dim] = out.row(rep, i / out.dim)[i % out.dim];
  }
};

}  // namespace cascada::hip
