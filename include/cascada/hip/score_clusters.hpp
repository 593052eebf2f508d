#pragma once
// Refinement, step 1: every token ranks the far clusters by their probability, the heads of a KV group together.
//
//   score(t, j) = sum_h exp2(logit_hj - L_h), or the logit itself where one head is alone: it orders alike
//
// A wave keeps the mean keys of 32 clusters in registers and reads the queries of 32 tokens, head after head.

#include <cstdint>

#include "cascada/hip/refine_operands.hpp"

namespace cascada::hip {

template <matrix_scalar Scalar, index_t Dim>
struct score_clusters {
  using shared                     = no_shared;
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = 2;
  static constexpr index_t tile    = 32 * threads / gfx942::wave;  // tokens of a block
  static constexpr index_t reach   = 128;                          // clusters of a block

  refined_slice            slice;
  heads_view<const Scalar> q;
  const Scalar*            mean_keys;  // [kv_heads, T, Dim]
  float                    scale;      // times log2(e)

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tiles_of_chunk() const {
    const index_t tokens = slice.last - slice.first;
    return ((tokens < slice.chunk ? tokens : slice.chunk) + tile - 1) / tile;
  }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tiles() const {
    return ((slice.last - 1) / slice.chunk - slice.first / slice.chunk + 1) * tiles_of_chunk();
  }
  index_t grid() const { return tiles() * ((slice.tokens + reach - 1) / reach) * slice.kv_heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*slice.valid < 0) return;
    const index_t kv_head = gpu.block() % slice.kv_heads, turn = gpu.block() / slice.kv_heads;
    const index_t of_chunk = slice.first / slice.chunk + turn % tiles() / tiles_of_chunk();
    const index_t opens = of_chunk * slice.chunk, closes = opens + slice.chunk;
    const index_t begin = (opens < slice.first ? slice.first : opens) + turn % tiles() % tiles_of_chunk() * tile;
    const index_t end   = closes < slice.last ? closes : slice.last;
    const index_t first = begin + 32 * gpu.wave(), clusters = slice.clusters.far_count[of_chunk];
    if (first >= end) return;
    const index_t wanted = first + gpu.lane() % 32, token = wanted < end ? wanted : end - 1;
    for (index_t i = 0; i < reach; i += 32) {
      const index_t from = turn / tiles() * reach + i;
      if (from >= clusters) return;
      score(gpu, token, wanted < end, of_chunk, kv_head, from, clusters);
    }
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void score(Gpu& gpu, index_t token, bool exists, index_t of_chunk, index_t kv_head,
                                           index_t from, index_t clusters) const {
    const index_t place = from + gpu.lane() % 32, cluster = place < clusters ? place : clusters - 1;
    const index_t row   = slice.far_rows(of_chunk)[cluster];
    const float   count = gpu.log2(static_cast<float>(slice.size(of_chunk, cluster))) / scale;
    vector8       key[Dim / 16];
    load(gpu, mean_keys + (std::int64_t{kv_head} * slice.tokens + row) * Dim, key);
    sums_16 counts, scores = {};
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) counts[v] = gpu.shuffle(count, row_32(gpu.lane(), v));

    const index_t group = q.heads / slice.kv_heads;
#pragma GCC unroll 1
    for (index_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      vector8 query[Dim / 16];
      load(gpu, q.row(token, h), query);
      sums_16 logits = counts;
#pragma GCC unroll 16
      for (index_t s = 0; s < Dim / 16; ++s) {
        logits = gpu.template mfma_32x32x8<Scalar>(low(key[s]), low(query[s]), logits);
        logits = gpu.template mfma_32x32x8<Scalar>(high(key[s]), high(query[s]), logits);
      }
      const float log_sum = slice.log_sums ? slice.log_sums[std::int64_t{token} * q.heads + h] : 0;
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v)
        scores[v] = slice.log_sums ? scores[v] + gpu.exp2(logits[v] * scale - log_sum) : logits[v];
    }
    if (!exists) return;
    float* const to = slice.scores.row(token - slice.first, kv_head) + from;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) to[row_32(gpu.lane(), v)] = scores[v];
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load(Gpu& gpu, const Scalar* row, vector8 (&part)[Dim / 16]) const {
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) part[s] = load_8(row + 16 * s + gpu.lane() / 32 * 8);
  }
};

}  // namespace cascada::hip
