#pragma once
// The advance's search: tokens of a block meet representatives, 128 at a time, and leave as they are settled.

#include "cascada/hip/gram/tile.hpp"
#include "cascada/hip/select/arguments.hpp"
#include "cascada/hip/select/match.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Tokens of a block that meet representatives, and what they have found. Tokens leave as they are settled.
struct search_shared {
  static constexpr index_t slices = 2 * gram_tile::waves;  // of 128 representatives: rows that one lane sees

  gram_tile::shared tile;
  index_t           active[64];  // local token of each column
  index_t           token[64];   // its index
  float             norm[64];
  device_match      match[64];  // by local token
  token_stage       stage[64];  // by local token
  index_t           row_token[128];
  float             row_norm[128];
  device_match      partial[slices][64];
  index_t           count;  // of columns in use
};

template <matrix_scalar Scalar, assignment Assign>
struct token_search {
  using shared = search_shared;

  const selection_arguments<Scalar>& args;

  /// Compares the tokens of threads that take `part` with representatives [first, last), 128 at a time.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void operator()(Gpu& gpu, shared& memory, index_t begin, bool part, index_t first,
                                                index_t last, index_t& pairs) const {
    if (first >= last) return;
    gather(gpu, memory, begin, part, gpu.thread());
    for (index_t panel = first; panel < last; panel += 128) {
      const index_t count = gpu.uniform(memory.count);
      if (count == 0) break;
      if (gpu.thread() == 0) pairs += count * (last - panel < 128 ? last - panel : 128);
      if (gpu.thread() < 128) {
        const index_t place            = panel + gpu.thread() < last ? panel + gpu.thread() : last - 1;
        const index_t token            = args.now.indices[place];
        memory.row_token[gpu.thread()] = token;
        memory.row_norm[gpu.thread()]  = args.rows.norms[token];
      }
      gpu.barrier();
      if (count > 32)
        meet_panel<2>(gpu, memory, panel, last, pairs);
      else
        meet_panel<1>(gpu, memory, panel, last, pairs);
      gpu.barrier();
      keep_best(gpu, memory, begin);
    }
    gpu.barrier();
  }

 private:
  /// Columns in use := the local tokens (threads below 64) that `stay`, in order.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void gather(Gpu& gpu, shared& memory, index_t begin, bool stays, index_t local) const {
    if (gpu.wave() == 0) {
      const std::uint64_t mask  = gpu.ballot(stays);
      const index_t       place = __builtin_popcountll(mask & ((std::uint64_t{1} << gpu.lane()) - 1));
      const index_t       count = __builtin_popcountll(mask);
      if (stays) {
        memory.active[place] = local;
        memory.token[place]  = begin + local;
        memory.norm[place]   = args.rows.norms[begin + local];
      }
      // Columns beyond the last read some token; nobody looks at their sums.
      if (gpu.lane() >= count) memory.token[gpu.lane()] = begin, memory.active[gpu.lane()] = 0;
      if (gpu.lane() == 0) memory.count = count;
    }
    gpu.barrier();
  }

  /// One panel of 128 representatives: sums, verdicts, and each lane's best match of its 16 rows.
  template <index_t Tiles, class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet_panel(Gpu& gpu, shared& memory, index_t panel, index_t last,
                                                index_t& pairs) const {
    const index_t first_row = 32 * gpu.wave();
    sums_16       sums[Tiles];
    multiply<Tiles>(gpu, memory.tile, args.rows.x, args.rows.x.row(memory.row_token[first_row + gpu.lane() % 32]),
                    memory.token, 32 * Tiles, 0, sums);
#pragma GCC unroll 2
    for (index_t t = 0; t < Tiles; ++t) {
      const index_t column = 32 * t + gpu.lane() % 32;
      const bool    exists = column < memory.count;
      memory.partial[2 * gpu.wave() + gpu.lane() / 32][column] =
          exists ? best_row(gpu, memory, sums[t], column, panel, last, pairs) : device_match{};
    }
  }

  /// The match of one column among this lane's 16 rows. Sums decide outside the margin; what may change the answer
  /// inside it, and each product that `nearest` compares, comes from the chain.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE device_match best_row(Gpu& gpu, shared& memory, const sums_16& sums, index_t column,
                                                      index_t panel, index_t last, index_t& pairs) const {
    constexpr bool     nearest = Assign == assignment::nearest;
    const float        norm = memory.norm[column], scaled = args.rows.threshold * norm;
    const gram_margin  margin(args.rows.x.cols, args.rows.threshold, norm);
    const index_t      first_row = 32 * gpu.wave();
    const device_match so_far    = memory.match[memory.active[column]];

    std::uint32_t sure = 0, possible = 0;
    float         least = so_far.place < 0 ? 0.0f : so_far.product / so_far.norm;  // that the nearest one has
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const index_t row      = first_row + row_32(gpu.lane(), v);
      const float   row_norm = memory.row_norm[row];
      const bool    exists   = panel + row < last;
      const auto    seen     = margin.judge(sums[v], row_norm);
      const bool    covers   = exists & seen.covered;
      sure |= static_cast<std::uint32_t>(covers) << v;
      possible |= static_cast<std::uint32_t>(exists & !seen.apart) << v;
      const float at_least = (sums[v] - margin.error(row_norm)) / row_norm;
      if (nearest & covers & (at_least > least)) least = at_least;
      if (v % 2 == 1) gpu.schedule_barrier();  // bounds the masks alive at a time
    }
    std::uint32_t asked = possible & ~sure;  // rows in order, which ascends with v
    if (!nearest && sure != 0) asked &= (sure & (0u - sure)) - 1;
    if constexpr (nearest) {
      asked = 0;
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) {
        const float row_norm = memory.row_norm[first_row + row_32(gpu.lane(), v)];
        const float at_most  = (sums[v] + margin.error(row_norm)) / row_norm;
        asked |= static_cast<std::uint32_t>(!(at_most < least * (1.0f - 0x1p-20f))) << v;
      }
      asked &= possible;
    }

    device_match best;
    for (; asked != 0; asked &= asked - 1) {
      ++pairs;
      const index_t row = first_row + row_32(gpu.lane(), __builtin_ctz(asked));
      const float   product =
          chain(args.rows.x.row(memory.token[column]), args.rows.x.row(memory.row_token[row]), args.rows.x.cols);
      const device_match match{panel + row, product, memory.row_norm[row]};
      if (covers(product, scaled, match.norm) && replaces(match, best, Assign)) best = match;
      if (!nearest && best.place >= 0) break;
    }
    if (!nearest && best.place < 0 && sure != 0)
      best = {panel + first_row + row_32(gpu.lane(), __builtin_ctz(sure)), 0.0f, 1.0f};
    return best;
  }

  /// Joins the partial matches; a token with one is settled unless a later one may be nearer.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep_best(Gpu& gpu, shared& memory, index_t begin) const {
    bool    stays = false;
    index_t local = 0;
    if (gpu.thread() < memory.count) {
      local             = memory.active[gpu.thread()];
      device_match best = memory.match[local];
      for (index_t s = 0; s < search_shared::slices; ++s)
        if (replaces(memory.partial[s][gpu.thread()], best, Assign)) best = memory.partial[s][gpu.thread()];
      memory.match[local] = best;
      stays               = best.place < 0 || Assign == assignment::nearest;
      if (!stays && memory.stage[local] == token_stage::searching) {
        memory.stage[local]         = token_stage::settled;
        args.now.rep[begin + local] = args.now.indices[best.place];
      }
    }
    gather(gpu, memory, begin, stays, local);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
