#pragma once
// The advance's end: one wave walks the 64 tokens of block b, which have met all before it, in order.

#include "cascada/hip/select/cross_gram.hpp"
#include "cascada/hip/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <matrix_scalar Scalar, assignment Assign>
struct block_resolution {
  using shared = scan_shared;

  const selection_call<Scalar>& call;
  index_t                       resolved_block;  // b

  /// Whether the candidate, of an earlier block, covers token i: by the cross-Gram verdict where there is one.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool inherits(Gpu& gpu, index_t i, index_t candidate, index_t& pairs) const {
    if (call.memory.cross && call.old_rep(candidate) == candidate) return cross_covers(call, i, candidate);
    pairs += gpu.lane() == 0;
    return wave_covers(gpu, call.rows, i, candidate, pairs);
  }

  /// Walks the 64 tokens of block b in order; lane l has token l. One wave, ballots and lane reads.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void operator()(Gpu& gpu, shared& memory, index_t begin, index_t& pairs) const {
    const index_t        i        = begin + gpu.lane();
    const bool           exists   = i < call.tokens();
    constexpr bool       lowest   = Assign == assignment::lowest_index;
    index_t* const       reps     = call.now.rep;
    const index_t* const indices  = call.now.indices;
    const std::uint64_t  graph    = exists ? call.memory.graph[i] : 0;
    const index_t        stage    = static_cast<index_t>(memory.stage[gpu.lane()]);
    const index_t        old      = exists ? call.old_rep(i) : i;
    const index_t        position = memory.match[gpu.lane()].position;
    index_t              rep      = exists && stage == settled ? reps[i] : -1;

    std::uint64_t joined = 0;
    for (std::uint64_t todo = gpu.ballot(stage != settled); todo != 0;) {
      const auto          local = static_cast<index_t>(__builtin_ctzll(todo));
      const std::uint64_t row   = gpu.read_lane(graph, local);
      todo &= todo - 1;
      index_t found = -1;
      if (gpu.read_lane(stage, local) == awaiting) {
        const index_t candidate = gpu.read_lane(rep, gpu.read_lane(old, local) - begin);
        const bool    covered =
            candidate >= begin ? (row >> (candidate - begin) & 1) != 0 : inherits(gpu, begin + local, candidate, pairs);
        if (covered) found = candidate;
      }
      if (found < 0) {
        const index_t known = gpu.read_lane(position, local);
        if constexpr (!lowest)
          found = nearest_of(gpu, memory, begin, local, row & joined, pairs);
        else if (known >= 0)
          found = indices[known];
        else if ((row & joined) != 0)
          found = begin + __builtin_ctzll(row & joined);
      }
      if (found < 0) {
        found = begin + local;
        joined |= std::uint64_t{1} << local;
        // Searching tokens that nothing covered so far leave together: this is their lowest representative.
        const bool leaves =
            lowest && stage == searching && rep < 0 && position < 0 && gpu.lane() > local && (graph >> local & 1) != 0;
        if (leaves) rep = found;
        todo &= ~gpu.ballot(leaves);
      }
      if (gpu.lane() == local) rep = found;
    }
    append(gpu, begin, joined, old != i, rep);
    memory.stage[gpu.lane()] = token_stage::settled;
  }

 private:
  /// The nearest of the representatives that cover token begin + local: the match of the search, and `row` within the
  /// block, each by a lane of its own. -1: none.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t nearest_of(Gpu& gpu, shared& memory, index_t begin, index_t local,
                                                   std::uint64_t row, index_t& pairs) const {
    const device_match known   = memory.match[local];
    index_t            best    = known.position < 0 ? -1 : call.now.indices[known.position];
    float              product = known.product, norm = known.norm;
    if (row == 0) return best;
    const index_t mine         = begin + gpu.lane();
    float         mine_product = 0, mine_norm = 1;
    if ((row >> gpu.lane() & 1) != 0) {
      mine_product = canonical_product(call.rows.x.row(begin + local), call.rows.x.row(mine), call.rows.x.cols);
      mine_norm    = call.rows.norms[mine];
      ++pairs;
    }
    for (; row != 0; row &= row - 1) {
      const auto  source        = static_cast<index_t>(__builtin_ctzll(row));
      const float other_product = gpu.shuffle(mine_product, source), other_norm = gpu.shuffle(mine_norm, source);
      if (best >= 0 && !detail::nearer(other_product, other_norm, product, norm)) continue;
      best = begin + source, product = other_product, norm = other_norm;
    }
    return best;
  }

  /// Writes what block b has become.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void append(Gpu& gpu, index_t begin, std::uint64_t joined, bool addition,
                                            index_t rep) const {
    const selection_memory& state    = call.memory;
    const index_t           i        = begin + gpu.lane();
    const bool              joins    = (joined >> gpu.lane() & 1) != 0;
    const std::uint64_t     added    = gpu.ballot(joins && addition);
    const set_prefix        known    = state.known[resolved_block];
    const index_t           position = known.representatives + voters_below(gpu, joined);
    if (i < call.tokens()) {
      call.now.rep[i] = rep;
      state.before[i] = {position, known.added + voters_below(gpu, added)};
      if (joins && position < call.limit) call.now.indices[position] = i;
    }
    if (gpu.lane() != 0) return;
    const index_t all               = known.representatives + __builtin_popcountll(joined);
    state.known[resolved_block + 1] = {all > call.limit ? -1 : all, known.added + __builtin_popcountll(added)};
  }

  static constexpr auto awaiting  = static_cast<index_t>(token_stage::awaiting);
  static constexpr auto searching = static_cast<index_t>(token_stage::searching);
  static constexpr auto settled   = static_cast<index_t>(token_stage::settled);
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
