#pragma once
// Opening by mass: which rows of queries ask for which leaves.
//
// A block meets its keys without values for the log-sum-exps of its rows, then its leaves once more, and compares.

#include <cstdint>
#include <limits>

#include "cascada/hip/attention/head_terms.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/attention/softmax.hpp"
#include "cascada/hip/attention/tile_loops.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <matrix_scalar Scalar, index_t Dim, class Counts = leaves_of_bands, class Place = rows_in_order>
struct ask_leaves {
  using tiles                             = key_tiles<Scalar, Dim>;
  using logits_of                         = key_logits<Scalar, Dim, Counts, Place>;
  static constexpr index_t threads        = tiles::threads;
  static constexpr index_t waves_per_simd = Dim <= 128 && !logits_of::adjusts ? 4 : 2;
  static constexpr index_t keys           = tiles::keys;  // at a time

  using loops = tile_loops<Scalar, Dim, Counts, false, Place>;
  struct shared : loops::shared {
    index_t head[threads];  // of each lane's query
  };

  query_tokens<Scalar>     queries;  // all of some bands
  listed_keys<Scalar>      far;
  near_keys<Scalar, Place> near;
  float                    scale;           // times log2(e)
  float                    log_open_above;  // log2
  opened_leaves            opened;
  head_logits              sink_logits = {};

  [[no_unique_address]] typename logits_of::adjustment adjust = {};

  index_t grid() const { return queries.grid(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (queries.growing && queries.failed(0)) return;
    auto&             lds    = gpu.template shared<shared>();
    const auto        asking = queries.placed(gpu);
    const query_block block  = asking.block_of(gpu, gpu.block());
    if (block.empty() || queries.failed(block.kv_head)) return;
    const query_row own = asking.row_of(gpu, block);
    const walk      now = logits_at().keys_of(gpu, lds.logits, asking, block);
    if (now.far_count == 0) return;

    logits_at().place_query(gpu, lds.logits, now, own);
    lds.head[gpu.thread()] = own.head;
    vector8 query[Dim / 16];
    logits_of::load_query(gpu, queries.q.row(own.place - asking.base, own.head), query);
    logits_at().measure_query(gpu, lds.logits, now, query);

    softmax<Scalar, 0> all;
    const auto         take_in = [&](const key_tile&, const sums_16& logits) {
      fragment weights[keys / 8] = {};
      all.take_in(gpu, logits, scale, weights);
    };
    meet_near(gpu, lds, now, query, take_in);
    meet_leaves(gpu, lds, now, query, take_in);
    // Relative to the top, where logits are near to each other: of large ones no digits are lost.
    const float          sum   = all.sum + gpu.shuffle(all.sum, gpu.lane() ^ 32);
    const float          sink  = sink_logits.of(lds.head[tiles::thread_of(gpu)]) - top_logit_of(all.top, scale);
    const float          bound = softmax_shares(gpu, 0.0f, sum, sink).log_sum + log_open_above;
    std::uint32_t* const rows  = opened.rows_of(gpu.uniform(asking.rows_number_of(block)), gpu.wave());
    meet_leaves(gpu, lds, now, query, [&](const key_tile& of, const sums_16& logits) {
      const std::uint32_t above = rows_above(gpu, logits, all.top, own.exists ? bound : never);
      if (gpu.lane() < keys && of.first + gpu.lane() < of.count) rows[of.first + gpu.lane()] = above;
    });
  }

  /// For the loops.
  CASCADA_DEVICE CASCADA_INLINE logits_of logits_at() const { return {far, near, opened, queries.first, adjust}; }

 private:
  using walk = typename logits_of::walk;

  static constexpr float never = std::numeric_limits<float>::infinity();

  // Each calls `use` with tiles and their logits.

  template <class Gpu, class Use>
  CASCADA_DEVICE CASCADA_INLINE void meet_near(Gpu& gpu, shared& lds, const walk& now, const vector8 (&query)[Dim / 16],
                                               const Use& use) const {
    if constexpr (logits_of::whole_tiles)
      if (now.near_whole > 0)
        loops::template whole<false>(gpu, lds, *this, now, {0, now.near_whole}, loops::near_from(gpu, *this, now, 0),
                                     query, in_turn{}, use);
    if (now.near_masked() > 0)
      loops::masked(
          gpu, lds, *this, now, now.near_masked(), [&](index_t i) { return now.near_tile_at(i); }, query, in_turn{},
          use);
  }

  template <class Gpu, class Use>
  CASCADA_DEVICE CASCADA_INLINE void meet_leaves(Gpu& gpu, shared& lds, const walk& now,
                                                 const vector8 (&query)[Dim / 16], const Use& use) const {
    if constexpr (logits_of::whole_tiles)
      if (now.far_whole > 0)
        loops::template whole<true>(gpu, lds, *this, now, {0, now.far_whole}, loops::listed_from(gpu, *this, now, 0),
                                    query, in_turn{}, use);
    if (now.far_masked() > 0)
      loops::masked(
          gpu, lds, *this, now, now.far_masked(), [&](index_t i) { return now.far_tile_at(i); }, query, in_turn{}, use);
  }

  /// Of key `lane`, the rows of the wave whose logit exceeds their bound over their top; a NaN exceeds nothing.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t rows_above(Gpu& gpu, const sums_16& logits, float top,
                                                         float bound) const {
    float largest = logits[0];
#pragma GCC unroll 15
    for (index_t v = 1; v < 16; ++v) largest = __builtin_fmaxf(largest, logits[v]);
    if (gpu.ballot((largest - top) * scale > bound) == 0) return 0;  // most tiles
    auto          key  = static_cast<std::uint32_t>(gpu.lane() % keys);
    std::uint32_t rows = 0;
    gpu.keep(key);  // what is compared with it would take all scalar registers
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const std::uint64_t above = gpu.ballot((logits[v] - top) * scale > bound);  // of keys 4 apart, one for each half
      if (key == static_cast<std::uint32_t>(row_32(0, v))) rows = static_cast<std::uint32_t>(above);
      if (key == static_cast<std::uint32_t>(row_32(32, v))) rows = static_cast<std::uint32_t>(above >> 32);
    }
    return rows;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
