#pragma once
// Opening by mass: which rows of queries ask for which leaves.
//
// A block meets its keys without values for the log-sum-exps of its rows, segment by segment, then its leaves once
// more, and compares. Where few rows ask, each segment has a block, which leaves its sums, and another one, which joins
// them all and compares the segment's leaves.

#include <cstdint>
#include <limits>

#include "cascada/hip/attention/head_terms.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/attention/softmax.hpp"
#include "cascada/hip/attention/tile_loops.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// What a launch does.
enum class ask_step { all, sum, compare };

template <matrix_scalar Scalar, index_t Dim, class Counts = leaves_of_bands, class Place = rows_in_order>
struct ask_leaves {
  using tiles                             = key_tiles<Scalar, Dim>;
  using logits_of                         = key_logits<Scalar, Dim, Counts, Place>;
  static constexpr index_t threads        = tiles::threads;
  static constexpr index_t waves_per_simd = Dim <= 128 && !logits_of::adjusts ? 4 : 2;
  static constexpr index_t keys           = tiles::keys;  // at a time

  using loops = tile_loops<Scalar, Dim, Counts, false, Place>;
  struct shared : loops::shared {
    index_t row[threads];  // of each lane: its query's, (token, head)
  };

  query_tokens<Scalar>     queries;  // all of some bands
  listed_keys<Scalar>      far;
  near_keys<Scalar, Place> near;
  float                    scale;           // times log2(e)
  float                    log_open_above;  // log2
  opened_leaves            opened;
  head_logits              sink_logits = {};
  key_segments             segments    = {};
  ask_step                 step        = ask_step::all;  // or one of the others, where a segment has a block

  [[no_unique_address]] typename logits_of::adjustment adjust = {};

  index_t grid() const { return queries.grid() * segments.blocks; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (queries.growing && queries.failed(0)) return;
    auto&             lds    = gpu.template shared<shared>();
    const auto        placed = queries.placed(gpu);
    const query_block block  = placed.block_of(gpu, gpu.block() / segments.blocks);
    if (block.empty() || queries.failed(block.kv_head)) return;
    const query_row own = placed.row_of(gpu, block);
    const walk      now = logits_at().keys_of(gpu, lds.logits, placed, block);
    if (now.far_count == 0) return;
    tile_range    met     = {0, now.tiles()};
    const index_t segment = gpu.uniform(gpu.block() % segments.blocks);
    if (step != ask_step::all) met = met.part(segment, segments.tiles);
    const tile_range leaves = met.among(now.near_whole, now.far_whole + now.far_masked());
    if (step == ask_step::compare ? leaves.count() <= 0 : met.count() <= 0) return;

    logits_at().place_query(gpu, lds.logits, now, own);
    lds.row[gpu.thread()] = (own.place - placed.base) * queries.q.heads + own.head;
    vector8 query[Dim / 16];
    logits_of::load_query(gpu, queries.q.row(own.place - placed.base, own.head), query);
    logits_at().measure_query(gpu, lds.logits, now, query);

    row_part all;
    if (step == ask_step::compare) {
      all = joined(gpu, lds, now);
    } else {
      all = summed(gpu, lds, now, met, query);
      if (step == ask_step::sum) return keep(gpu, lds, segment, own.exists, all);
    }
    // Relative to the top, where logits are near to each other: of large ones no digits are lost.
    const float          sum   = all.sum + gpu.shuffle(all.sum, gpu.lane() ^ 32);
    const index_t        head  = lds.row[gpu.thread()] % queries.q.heads;
    const float          sink  = sink_logits.of(head) - top_logit_of(all.top, scale);
    const float          bound = softmax_shares(gpu, 0.0f, sum, sink).log_sum + log_open_above;
    std::uint32_t* const rows  = opened.rows_of(gpu.uniform(placed.rows_number_of(block)), gpu.wave());
    compare(gpu, lds, now, met, query, [&](const key_tile& of, const sums_16& logits) {
      const std::uint32_t above = rows_above(gpu, logits, all.top, own.exists ? bound : never);
      if (gpu.lane() < keys && of.first + gpu.lane() < of.count) rows[of.first + gpu.lane()] = above;
    });
  }

  /// For the loops.
  CASCADA_DEVICE CASCADA_INLINE logits_of logits_at() const { return {far, near, opened, queries.first, adjust}; }

 private:
  using walk = typename logits_of::walk;

  static constexpr float never = std::numeric_limits<float>::infinity();

  /// Half of a row's softmax: what its weights are relative to, and their sum.
  struct row_part {
    float top = -std::numeric_limits<float>::infinity(), sum = 0;

    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE void join(Gpu& gpu, float later_top, float later_sum, float of_logits) {
      const joint_softmax joint(gpu, top, later_top, of_logits);
      top = joint.top, sum = joint(sum, later_sum);
    }
  };

  /// Of the keys that are met.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE row_part summed(Gpu& gpu, shared& lds, const walk& now, const tile_range& met,
                                                const vector8 (&query)[Dim / 16]) const {
    row_part           all;
    softmax<Scalar, 0> state;  // of the segment at hand
    index_t            left  = segments.tiles;
    const auto         turns = [&](index_t count, const auto& turn) {
      take_turns(count, left, segments.tiles, turn, [&] { all.join(gpu, state.top, state.sum, scale), state = {}; });
    };
    const auto take_in = [&](const key_tile&, const sums_16& logits) {
      fragment weights[keys / 8] = {};
      state.take_in(gpu, logits, scale, weights);
    };
    if constexpr (logits_of::whole_tiles) {
      const tile_range whole = met.among(0, now.near_whole);
      if (whole.count() > 0)
        loops::template whole<false>(gpu, lds, *this, now, whole, loops::near_from(gpu, *this, now, whole.begin), query,
                                     turns, take_in);
      meet_whole_leaves(gpu, lds, now, met, query, turns, take_in);
    }
    const tile_range masked = met.among(now.near_whole + now.far_whole, now.masked());
    if (masked.count() > 0)
      loops::masked(
          gpu, lds, *this, now, masked.count(), [&](index_t i) { return now.tile_at(masked.begin + i); }, query, turns,
          take_in);
    all.join(gpu, state.top, state.sum, scale);
    return all;
  }

  /// Calls `use` with tiles of leaves and their logits.
  template <class Gpu, class Use>
  CASCADA_DEVICE CASCADA_INLINE void compare(Gpu& gpu, shared& lds, const walk& now, const tile_range& met,
                                             const vector8 (&query)[Dim / 16], const Use& use) const {
    if constexpr (logits_of::whole_tiles) meet_whole_leaves(gpu, lds, now, met, query, in_turn{}, use);
    const tile_range masked = met.among(now.near_whole + now.far_whole, now.far_masked());
    if (masked.count() > 0)
      loops::masked(
          gpu, lds, *this, now, masked.count(), [&](index_t i) { return now.far_tile_at(masked.begin + i); }, query,
          in_turn{}, use);
  }

  template <class Gpu, class Turns, class Use>
  CASCADA_DEVICE CASCADA_INLINE void meet_whole_leaves(Gpu& gpu, shared& lds, const walk& now, const tile_range& met,
                                                       const vector8 (&query)[Dim / 16], const Turns& turns,
                                                       const Use& use) const {
    const tile_range leaves = met.among(now.near_whole, now.far_whole);
    if (leaves.count() > 0)
      loops::template whole<true>(gpu, lds, *this, now, leaves, loops::listed_from(gpu, *this, now, leaves.begin),
                                  query, turns, use);
  }

  /// Where a half of a row keeps its sums of a segment. Those of the rows that attend will lie there later.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE float* kept_at(Gpu& gpu, const shared& lds, index_t segment) const {
    const kept_row<Dim> row(segment * (queries.q.tokens * queries.q.heads) + lds.row[gpu.thread()]);
    return segments.kept + row.sums(gpu.lane() / 32);
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep(Gpu& gpu, const shared& lds, index_t segment, bool exists,
                                          const row_part& all) const {
    if (!exists) return;
    float* const to = kept_at(gpu, lds, segment);
    to[0] = all.top, to[1] = all.sum;
  }

  /// What all segments have kept.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE row_part joined(Gpu& gpu, const shared& lds, const walk& now) const {
    row_part all;
    join_segments(
        0, segments.count_of(now.tiles()),
        [&](index_t segment) {
          const float* const from = kept_at(gpu, lds, segment);
          return row_part{from[0], from[1]};
        },
        [&](const row_part& later) { all.join(gpu, later.top, later.sum, scale); });
    return all;
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
