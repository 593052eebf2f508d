#pragma once
// The advance's scan: tokens of a block meet representatives, 128 at a time, and leave as they are settled.

#include "cascada/hip/base/covering_row.hpp"
#include "cascada/hip/gram/panel.hpp"
#include "cascada/hip/select/call.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// Tokens of a block that meet representatives, and what they have found. Tokens leave as they are settled.
struct scan_shared {
  static constexpr index_t slices = 2 * gram_tile::waves;  // of 128 representatives: rows that one lane sees

  union {
    gram_tile::shared tile;
    float             halves[gram_tile::waves / 2][16][gfx942::wave];  // sums over the second half of the elements
  };
  gram_columns columns;
  index_t      active[scan_tokens];  // local token of each column
  covering_row match[scan_tokens];   // by local token
  token_stage  stage[scan_tokens];   // by local token
  gram_panel   panel;
  covering_row partial[slices][scan_tokens];
};

/// Whether a token takes what it has found rather than the best so far.
template <assignment Assign>
CASCADA_DEVICE CASCADA_INLINE bool takes(const covering_row& found, const covering_row& best) {
  return Assign == assignment::nearest ? found.nearer_than(best) : found.earlier_than(best);
}

/// Whether a token with this match looks no further. One that takes the nearest always may find a nearer one.
template <assignment Assign>
CASCADA_DEVICE CASCADA_INLINE bool ends_search(const covering_row& match) {
  return Assign == assignment::lowest_index && !match.none();
}

template <assignment Assign, class Call>
struct token_scan {
  using shared = scan_shared;

  const Call& call;

  /// Compares the tokens of threads that `ask` with representatives [first, last), 128 at a time.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void operator()(Gpu& gpu, shared& lds, index_t begin, bool asks, index_t first,
                                                index_t last, index_t& pairs) const {
    if (first >= last) return;
    gather(gpu, lds, begin, asks, gpu.thread());
    for (index_t panel = first; panel < last; panel += gram_panel::rows) {
      const index_t count = gpu.uniform(lds.columns.count);
      if (count == 0) break;
      if (gpu.thread() == 0) pairs += count * gram_panel::used(panel, last);
      if (gpu.thread() < gram_panel::rows)
        lds.panel.load(call.rows, call.now.indices[gram_panel::place(panel, last, gpu.thread())], gpu.thread());
      gpu.barrier();
      const bool halves = last - panel <= gram_panel::rows / 2 && call.rows.x.cols % 16 == 0;
      meet_panel(gpu, lds, panel, last, halves, pairs);
      gpu.barrier();
      keep_best(gpu, lds, begin, halves ? scan_shared::slices / 2 : scan_shared::slices);
    }
  }

 private:
  /// Columns in use := the local tokens (threads below 32) that have `stays`, in order.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void gather(Gpu& gpu, shared& lds, index_t begin, bool stays, index_t local) const {
    if (gpu.wave() == 0) {
      const index_t column = lds.columns.gather(gpu, call.rows, begin, stays, local);
      if (stays) lds.active[column] = local;
    }
    gpu.barrier();
  }

  /// One panel of 128 representatives: sums, verdicts, and each lane's best match of its 16 rows. Where half of the
  /// waves would have no rows, each half of them takes half of the elements (`halves`): the first judges.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet_panel(Gpu& gpu, shared& lds, index_t panel, index_t last, bool halves,
                                                index_t& pairs) const {
    const auto&   x    = call.rows.x;
    const index_t half = halves ? gpu.wave() / 2 : 0, tile = halves ? gpu.wave() % 2 : gpu.wave();
    const index_t cols = halves ? x.cols / 2 : x.cols, first_row = 32 * tile, column = gpu.lane() % 32;
    sums_16       sums[1];
    multiply<1>(
        gpu, lds.tile, cols, call.rows.row(lds.panel.token[first_row + column]) + half * cols,
        [&](index_t c) { return x.row(lds.columns.token[c % 32]) + (halves ? c / 32 * cols : 0); }, half, sums);
    if (halves) add_halves(gpu, lds.halves[tile], half, sums[0]);
    if (half == 0)
      lds.partial[2 * tile + gpu.lane() / 32][column] =
          column < lds.columns.count ? best_row(gpu, lds, sums[0], column, panel, first_row, last, pairs)
                                     : covering_row{};
  }

  /// The first half's sums += the second half's.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void add_halves(Gpu& gpu, float (&other)[16][gfx942::wave], index_t half,
                                                       sums_16& sums) {
    if (half == 1)
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) other[v][gpu.lane()] = sums[v];
    gpu.barrier();
    if (half == 0)
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) sums[v] += other[v][gpu.lane()];
  }

  /// The match of one column among this lane's 16 rows. Sums decide outside the margin; what may change the answer
  /// inside it, and each product that `nearest` compares, is canonical.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE covering_row best_row(Gpu& gpu, shared& lds, const sums_16& sums, index_t column,
                                                      index_t panel, index_t first_row, index_t last,
                                                      index_t& pairs) const {
    constexpr bool     nearest = Assign == assignment::nearest;
    const float* const norms   = lds.panel.norm + first_row;
    const judged_token token(call.rows, lds.columns.token[column], lds.columns.norm[column]);
    const covering_row so_far = lds.match[lds.active[column]];
    float              least  = so_far.none() ? 0.0f : so_far.product / so_far.norm;  // that the nearest one has
    const row_evidence seen =
        judge_rows(gpu, token, sums, norms, last - panel - first_row, [&](bool covered, float sum, float norm) {
          const float at_least = (sum - token.error(norm)) / norm;
          if (nearest & covered & (at_least > least)) least = at_least;
        });
    std::uint32_t asked = seen.possible & ~seen.sure;
    if (!nearest && seen.sure != 0) asked &= (seen.sure & (0u - seen.sure)) - 1;
    if constexpr (nearest) asked = seen.possible & may_be_nearest(gpu, token, sums, norms, least);

    covering_row best;
    for (; asked != 0; asked &= asked - 1) {
      ++pairs;
      const index_t      row = first_row + __builtin_ctz(asked);
      const covering_row match{panel + row, token.product(lds.panel.token[row]), lds.panel.norm[row]};
      if (token.covered(match.product, match.norm) && takes<Assign>(match, best)) best = match;
      if (!nearest && !best.none()) break;
    }
    if (!nearest && best.none() && seen.sure != 0) best = {panel + first_row + __builtin_ctz(seen.sure), 0.0f, 1.0f};
    return best;
  }

  /// Rows, as bits, whose sums do not tell that their cosine times the token's norm is below `least`.
  template <class Gpu, class Rows>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t may_be_nearest(Gpu& gpu, const judged_token<Rows>& token,
                                                             const sums_16& sums, const float* norms,
                                                             float least) const {
    std::uint32_t entries = 0;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const float norm    = norms[row_32(gpu.lane(), v)];
      const float at_most = (sums[v] + token.error(norm)) / norm;
      entries |= static_cast<std::uint32_t>(!(at_most < least * (1.0f - 0x1p-20f))) << v;
    }
    return bits_of_rows(gpu, entries);
  }

  /// Joins the partial matches, as many as there are slices; tokens whose search ends are settled.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep_best(Gpu& gpu, shared& lds, index_t begin, index_t slices) const {
    bool    stays = false;
    index_t local = 0;
    if (gpu.thread() < lds.columns.count) {
      local             = lds.active[gpu.thread()];
      covering_row best = lds.match[local];
      for (index_t s = 0; s < slices; ++s)
        if (takes<Assign>(lds.partial[s][gpu.thread()], best)) best = lds.partial[s][gpu.thread()];
      lds.match[local] = best;
      stays            = !ends_search<Assign>(best);
      if (!stays && lds.stage[local] == token_stage::searching) {
        lds.stage[local]            = token_stage::settled;
        call.now.rep[begin + local] = call.now.indices[best.place];
      }
    }
    gather(gpu, lds, begin, stays, local);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
