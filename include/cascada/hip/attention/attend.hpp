#pragma once
// Attention on the matrix units: 128 rows of queries against 32 keys at a time, softmax on the fly.
//
//   S^T [keys, queries]  = K Q^T
//   O^T [dim, queries]  += V^T P^T, P = exp2(S - top), as softmax.hpp says
//
// Transposed, because a lane's part of S^T is, element for element, its part of the operand P^T of the second product:
// nothing moves between lanes. Each lane has one query, so statistics of the softmax need one exchange, between the
// halves of the wave. Rows are (token, head) pairs of one KV head, so its query heads share every key they read.

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cascada/hip/attention/head_terms.hpp"
#include "cascada/hip/attention/softmax.hpp"
#include "cascada/hip/attention/tile_loops.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <matrix_scalar Scalar, index_t Dim, class Counts = counts_of_keys, class Place = rows_in_order>
struct attend {
  using tiles                             = key_tiles<Scalar, Dim>;
  using logits_of                         = key_logits<Scalar, Dim, Counts, Place>;
  static constexpr index_t threads        = tiles::threads;
  static constexpr index_t waves_per_simd = Dim <= 128 ? 2 : 1;          // of 256, shared memory has room for one
  static constexpr index_t keys           = tiles::keys;                 // at a time
  static constexpr bool    merges         = logits_of::slides;           // with another softmax
  static constexpr bool    cuts           = merges || logits_of::opens;  // keys into segments

  using loops = tile_loops<Scalar, Dim, Counts, true, Place>;
  /// Of a block, for want of registers.
  struct opened_part {
    tile_range of_tokens;  // those that are met
    index_t    left;       // tiles of the segment in which they begin, from there on
    index_t    tiles;      // all
  };
  struct shared : loops::shared {
    index_t target[threads];  // of each lane: where the answer goes

    [[no_unique_address]] std::conditional_t<logits_of::opens, opened_part, no_shared> opened;
  };

  query_tokens<Scalar>     queries;
  listed_keys<Scalar>      far   = {};
  near_keys<Scalar, Place> near  = {};
  other_softmax            other = {};  // to be merged, if any
  float                    scale;       // times log2(e)

  [[no_unique_address]] typename logits_of::opening opened = {};

  key_segments segments    = {};
  head_logits  sink_logits = {};

  [[no_unique_address]] typename logits_of::adjustment adjust = {};

  index_t grid() const { return queries.grid() * segments.blocks; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (queries.growing && queries.failed(0)) return;
    auto&             lds    = gpu.template shared<shared>();
    const auto        placed = queries.placed(gpu);
    const query_block block  = placed.block_of(gpu, gpu.block() / segments.blocks);
    if (block.empty() || queries.failed(block.kv_head)) return;
    const query_row own    = placed.row_of(gpu, block);
    const index_t   token  = queries.token_of(block.kv_head, own.place);
    const index_t   answer = queries.answer_of(block.kv_head, own.place);
    const walk      now    = logits_at().keys_of(gpu, lds.logits, placed, block);
    const index_t   edge   = opened_from(now, placed.places_end(block));
    tile_range      met    = {0, tiles_of(now, edge)};
    index_t         row    = (answer - placed.base) * queries.out.heads + own.head;
    if (alone()) {
      const index_t segment = gpu.uniform(gpu.block() % segments.blocks);
      met                   = met.part(segment, segments.tiles);
      if (segment > 0 && met.count() <= 0) return;
      row += segment * (queries.out.tokens * queries.out.heads);
    }

    if constexpr (logits_of::opens) {
      const index_t passed = edge % segments.tiles;  // of the segment in which opened tokens begin
      const index_t left   = alone() ? unlimited : passed == 0 ? 0 : segments.tiles - passed;
      if (gpu.thread() == 0) lds.opened = {met.among(edge, now.opened_tiles()), left, tiles_of(now, edge)};
      gpu.barrier();
    }
    logits_at().place_query(gpu, lds.logits, now, own);
    lds.target[gpu.thread()] = own.exists ? 2 * row + gpu.lane() / 32 : -1;
    summed  state;
    vector8 query[Dim / 16];
    logits_of::load_query(gpu, queries.q.row(token - placed.base, own.head), query);
    logits_at().measure_query(gpu, lds.logits, now, query);
    attend_all(gpu, lds, now, met, query, state);
    const float   sum    = state.sum + gpu.shuffle(state.sum, gpu.lane() ^ 32);  // each half has seen half of the keys
    const index_t target = lds.target[gpu.thread()];
    if (target < 0) return;
    if (alone() && keep_alone(gpu, tiles_in(lds, now), state, target)) return;
    write(gpu, now, state, sum, target / 2, target % 2);
  }

  /// For the loops.
  CASCADA_DEVICE CASCADA_INLINE logits_of logits_at() const { return {far, near, opened, queries.first, adjust}; }

 private:
  using summed = softmax<Scalar, Dim>;
  using walk   = typename logits_of::walk;

  /// What logits are over, known to the compiler where products are adjusted.
  CASCADA_DEVICE CASCADA_INLINE float unit() const { return logits_of::adjusts ? 1.0f : scale; }

  /// Of the segment at hand.
  struct progress {
    index_t left;       // tiles
    index_t ended = 0;  // segments before it
  };
  static constexpr index_t unlimited = std::numeric_limits<index_t>::max();

  /// Whether this block has one segment, and other blocks have the others.
  CASCADA_DEVICE CASCADA_INLINE bool alone() const { return cuts && segments.blocks > 1; }

  /// Opened tokens begin behind all tiles that later rows of the block, at places before `end`, may add to those before
  /// them. Where a segment ends among these, they begin with one. What later rows open besides lies behind what a row
  /// sees.
  CASCADA_DEVICE CASCADA_INLINE index_t opened_from(const walk& now, index_t end) const {
    if constexpr (!logits_of::opens) return 0;
    const index_t first = now.near_whole + now.far_whole + now.far_masked(), edge = first + now.near_masked(end - 1);
    const index_t last = first > 0 ? first - 1 : 0;  // that is there whichever have queries
    return last / segments.tiles == edge / segments.tiles ? edge : segments.count_of(edge) * segments.tiles;
  }
  CASCADA_DEVICE CASCADA_INLINE index_t tiles_of(const walk& now, index_t edge) const {
    if constexpr (logits_of::opens)
      if (now.opened_tiles() > 0) return edge + now.opened_tiles();
    return now.tiles();
  }

  /// The same once more.
  CASCADA_DEVICE CASCADA_INLINE static index_t tiles_in(const shared& lds, const walk& now) {
    if constexpr (logits_of::opens) return lds.opened.tiles;
    return now.tiles();
  }

  /// One segment after the other, or one alone.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void attend_all(Gpu& gpu, shared& lds, const walk& now, const tile_range& met,
                                                const vector8 (&query)[Dim / 16], summed& state) const {
    progress at = {.left = alone() ? unlimited : segments.tiles};
    attend_tiles(gpu, lds, now, met, query, state, at);
    if constexpr (cuts)
      if (at.ended > 0) state.join(gpu, kept_by_block(gpu), unit());
  }

  /// What the segment at hand has seen joins what those before it have, and the next one begins.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void end_segment(Gpu& gpu, summed& state, progress& at) const {
    const kept_softmax kept = kept_by_block(gpu);
    if (at.ended > 0) state.join(gpu, kept, unit());
    state.keep(gpu, kept);
    state = {}, ++at.ended;
  }

  /// Where a block that goes from segment to segment keeps what it has so far. Not computed ahead of loops.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE kept_softmax kept_by_block(Gpu& gpu) const {
    auto thread = static_cast<std::uint32_t>(gpu.thread());
    gpu.keep(thread);
    // Bytes have 32 bits: a slice's, or 256 MiB.
    const auto bytes = static_cast<std::uint32_t>(gpu.block()) * std::uint32_t{threads * (Dim / 2 + 2) * sizeof(float)};
    float* const own = reinterpret_cast<float*>(reinterpret_cast<char*>(segments.kept) + bytes);
    return {own, 4 * thread, 4 * threads, threads * Dim / 2 + 2 * thread};
  }

  /// Keeps a row of a segment for merge_segments, with how many there are. Where it is the only one, returns false:
  /// then it is the answer.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool keep_alone(Gpu& gpu, index_t all, summed& state, index_t target) const {
    const bool          several = all > segments.tiles;
    const index_t       half    = target % 2;
    const kept_row<Dim> row(target / 2);
    if (half == 0) segments.counts[target / 2] = several ? segments.count_of(all) : 1;
    if (several) state.keep(gpu, {segments.kept, row.values(half), 8, row.sums(half)});
    return several;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void attend_tiles(Gpu& gpu, shared& lds, const walk& now, const tile_range& own,
                                                  const vector8 (&query)[Dim / 16], summed& state, progress& at) const {
    const auto among = [&](index_t first, index_t count) {
      return cuts ? own.among(first, count) : tile_range{0, count};
    };
    const auto turns = [&] {
      if constexpr (cuts)
        return [&](index_t count, const auto& turn) {
          take_turns(count, at.left, segments.tiles, turn, [&] { end_segment(gpu, state, at); });
        };
      else
        return in_turn{};
    }();
    const auto use = [&](const key_tile&, const sums_16& logits) {
      fragment weights[keys / 8] = {};
      state.take_in(gpu, logits, unit(), weights);
      multiply_values(gpu, lds, weights, state);
    };
    const tile_range masked = among(now.near_whole + now.far_whole, now.masked());
    if constexpr (logits_of::whole_tiles) {
      const tile_range seen = among(0, now.near_whole), listed = among(now.near_whole, now.far_whole);
      if (seen.count() > 0)
        loops::template whole<false>(gpu, lds, *this, now, seen, loops::near_from(gpu, *this, now, seen.begin), query,
                                     turns, use);
      if (listed.count() > 0)
        loops::template whole<true>(gpu, lds, *this, now, listed, loops::listed_from(gpu, *this, now, listed.begin),
                                    query, turns, use);
    }
    if (masked.count() > 0)
      loops::masked(
          gpu, lds, *this, now, masked.count(),
          [&](index_t i) {
            return logits_of::sloped ? now.near_tile_at(masked.begin + i) : now.tile_at(masked.begin + i);
          },
          query, turns, use);
    if constexpr (logits_of::opens) {
      const tile_range tokens = {gpu.uniform(lds.opened.of_tokens.begin), gpu.uniform(lds.opened.of_tokens.end)};
      if (tokens.count() <= 0) return;
      at.left = gpu.uniform(lds.opened.left);
      loops::masked(
          gpu, lds, *this, now, tokens.count(), [&](index_t i) { return now.opened_tile_at(tokens.begin + i); }, query,
          turns, use);
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply_values(Gpu& gpu, const shared& lds, const fragment (&weights)[keys / 8],
                                                     summed& state) const {
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) {
      const std::uint16_t* const row =
          lds.tile.value + (32 * t + gpu.lane() % 32) * tiles::value_pitch + gpu.lane() / 32 * 8;
#pragma GCC unroll 2
      for (index_t s = 0; s < keys / 16; ++s) {
        const vector8 value = load_8(row + 16 * s);
        state.out[t]        = gpu.template mfma_32x32x8<Scalar>(low(value), weights[2 * s], state.out[t]);
        state.out[t]        = gpu.template mfma_32x32x8<Scalar>(high(value), weights[2 * s + 1], state.out[t]);
      }
    }
  }

  /// One half of an answer: the average, merged with that of the other softmax by log-sum-exp.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void write(Gpu& gpu, const walk& now, const summed& state, float sum, index_t place,
                                           index_t half) const {
    const index_t token = place / queries.out.heads, head = place % queries.out.heads;
    std::int64_t  row    = 0;  // of the other softmax
    float         theirs = -std::numeric_limits<float>::infinity();
    if constexpr (merges)
      if (other.out) {
        row = std::int64_t{other.rows ? other.row_of(now.kv_head, queries.base + token) : token} * queries.out.heads +
              head;
        theirs = other.log_sums[row];
      }
    const softmax_shares share(gpu, top_logit_of(state.top, unit()), sum, sink_logits.of(head), theirs);
#pragma GCC unroll 8
    for (index_t t = 0; t < Dim / 32; ++t) {
      sums_16 part = state.out[t] * share.own;
      if constexpr (merges)
        if (other.out)
#pragma GCC unroll 16
          for (index_t v = 0; v < 16; ++v)
            part[v] += share.other * other.out[row * Dim + 32 * t + row_32(32 * half, v)];
      queries.out.as_stored([&]<class Out>(const heads_view<Out>& rows) {
        Out* const to = rows.row(token, head) + 32 * t;
#pragma GCC unroll 16
        for (index_t v = 0; v < 16; ++v) to[row_32(32 * half, v)] = from_float<Out>(part[v]);
      });
    }
    if (half == 0) queries.log_sums.put(token, head, share.log_sum);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
