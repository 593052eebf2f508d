#pragma once
// The advance's other half: one block walks over the tokens of a stretch in order. They have met all representatives
// but their neighbours, and the graph has verdicts on those, so it is bits that are walked over.

#include <cstdint>

#include "cascada/hip/select/inherit.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// What waves that resolve a stretch tell each other. Neighbours of a thread's token are taken 64 by 64.
struct resolve_shared {
  static constexpr index_t blocks = 2 * stretch_blocks;  // of neighbours

  std::uint64_t covering[blocks][stretch_tokens];  // those that cover a thread's token
  std::uint64_t kept[blocks];                      // those that are representatives; of the stretch, once resolved
  std::uint64_t added[stretch_blocks];             // tokens of the stretch that have become ones
  index_t       rep[stretch_tokens];

  /// Whether neighbour `number` covers a thread's token.
  CASCADA_DEVICE CASCADA_INLINE bool covers(index_t thread, index_t number) const {
    return (covering[number / block_tokens][thread] >> (number % block_tokens) & 1) != 0;
  }
};

template <assignment Assign, class Call>
struct stretch_resolution {
  using shared = resolve_shared;

  const Call& call;
  index_t     stretch;

  /// Each wave has 64 tokens, a lane one of them. A wave after the other walks over its own; between turns, those
  /// behind it learn what has become of them.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void operator()(Gpu& gpu, shared& lds, index_t& pairs) const {
    own_token own = load(gpu, lds);
    gpu.barrier();
#pragma GCC unroll 1
    for (index_t turn = 0; turn < stretch_blocks; ++turn) {
      if (gpu.wave() >= turn) {
        check_inherited(gpu, lds, own, begin() + turn * block_tokens, pairs);
        const index_t resolved = stretch_blocks + turn;
        for (index_t block = turn == 0 ? 0 : resolved - 1; block < resolved; ++block)
          meet_neighbours(gpu, lds, own, block, pairs);
      }
      if (gpu.wave() == turn) walk(gpu, lds, own, pairs);
      gpu.barrier();
    }
    append(gpu, lds, own);
  }

 private:
  static constexpr bool    lowest = Assign == assignment::lowest_index;
  static constexpr index_t none = -1;  // a number that no token has: those below it are representatives (extension.hpp)

  static constexpr auto awaiting  = static_cast<index_t>(token_stage::awaiting);
  static constexpr auto searching = static_cast<index_t>(token_stage::searching);
  static constexpr auto settled   = static_cast<index_t>(token_stage::settled);

  /// A lane's token.
  struct own_token {
    index_t i, stage, old;
    index_t rep;    // none: not settled
    index_t found;  // the representative that it takes of those it has met, or none
    float   product, norm;
  };

  CASCADA_DEVICE CASCADA_INLINE index_t begin() const { return stretch * stretch_tokens; }
  CASCADA_DEVICE CASCADA_INLINE index_t first_neighbour() const { return begin() - stretch_tokens; }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE own_token load(Gpu& gpu, shared& lds) const {
    const index_t        i        = begin() + gpu.thread();
    const bool           exists   = i < call.tokens();
    const token_progress progress = exists ? call.memory.progress[i] : token_progress{};
    const index_t        found    = progress.found < 0 ? none : call.now.indices[progress.found];
#pragma GCC unroll 8
    for (index_t block = 0; block < shared::blocks; ++block)  // of later blocks, what nobody has written or looks at
      lds.covering[block][gpu.thread()] = exists ? call.covering(i, block * block_tokens) : 0;
    const bool          kept  = stretch > 0 && call.now.rep[i - stretch_tokens] == i - stretch_tokens;
    const std::uint64_t votes = gpu.ballot(kept);
    if (gpu.lane() == 0) lds.kept[gpu.wave()] = votes;
    return {.i       = i,
            .stage   = static_cast<index_t>(progress.stage),
            .old     = exists ? call.old_rep(i) : i,
            .rep     = exists && progress.stage == token_stage::settled ? call.now.rep[i] : none,
            .found   = found,
            .product = progress.found_product,
            .norm    = found == none ? 1.0f : call.rows.norms[found]};
  }

  /// Tokens that await one before `resolved` settle, or become orphans.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void check_inherited(Gpu& gpu, const shared& lds, own_token& own, index_t resolved,
                                                     index_t& pairs) const {
    const bool    asks      = own.stage == awaiting && own.old < resolved;
    const index_t candidate = !asks ? 0 : own.old < begin() ? call.now.rep[own.old] : lds.rep[own.old - begin()];
    const bool    near      = candidate >= first_neighbour();
    const bool    by_graph  = asks && near && lds.covers(gpu.thread(), candidate - first_neighbour());
    const bool    covered   = own_candidate_covers(gpu, call, asks && !near, own.i, candidate, pairs) || by_graph;
    if (asks) own.stage = covered ? settled : searching;
    if (covered) own.rep = candidate;
  }

  /// Tokens meet a block of neighbours that is resolved.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet_neighbours(Gpu& gpu, const shared& lds, own_token& own, index_t block,
                                                     index_t& pairs) const {
    if (own.stage == settled) return;
    const index_t from     = first_neighbour() + block * block_tokens;
    std::uint64_t covering = lds.covering[block][gpu.thread()] & lds.kept[block];
    if constexpr (lowest) {
      if (own.found == none && covering != 0) own.found = from + static_cast<index_t>(__builtin_ctzll(covering));
      if (own.stage == searching && own.found != none) own.stage = settled, own.rep = own.found;
    } else {
      for (; covering != 0; covering &= covering - 1, ++pairs) {
        const index_t j       = from + static_cast<index_t>(__builtin_ctzll(covering));
        const float   product = canonical_product(call.rows.x.row(own.i), call.rows.x.row(j), call.rows.x.cols);
        const float   norm    = call.rows.norms[j];
        if (own.found == none || detail::nearer(product, norm, own.product, own.norm))
          own.found = j, own.product = product, own.norm = norm;
      }
    }
  }

  /// Walks over the wave's tokens in order. Ballots and lane reads.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void walk(Gpu& gpu, shared& lds, const own_token& own, index_t& pairs) const {
    const index_t       block  = begin() + gpu.wave() * block_tokens;
    const std::uint64_t graph  = lds.covering[stretch_blocks + gpu.wave()][gpu.thread()];
    index_t             rep    = own.rep;
    std::uint64_t       joined = 0;
    for (std::uint64_t todo = gpu.ballot(own.stage != settled); todo != 0;) {
      const auto          local = static_cast<index_t>(__builtin_ctzll(todo));
      const std::uint64_t row   = gpu.read_lane(graph, local);
      todo &= todo - 1;
      index_t found = none;
      if (gpu.read_lane(own.stage, local) == awaiting) {
        const index_t candidate = gpu.read_lane(rep, gpu.read_lane(own.old, local) - block);
        const bool    near      = candidate >= first_neighbour();
        if (near ? lds.covers(gpu.wave() * block_tokens + local, candidate - first_neighbour())
                 : candidate_covers(gpu, call, block + local, candidate, pairs))
          found = candidate;
      }
      if (found == none) {
        found = gpu.read_lane(own.found, local);
        if constexpr (!lowest)
          found = nearest_of(gpu, own, block, local, row & joined, pairs);
        else if (found == none && (row & joined) != 0)
          found = block + __builtin_ctzll(row & joined);
      }
      found = gpu.uniform(found);  // so that what follows takes scalar instructions
      if (found == none) {
        found = block + local;
        joined |= std::uint64_t{1} << local;
        // Searching tokens that nothing covered so far leave together: this is their lowest representative.
        const bool leaves =
            lowest && own.stage == searching && rep == none && gpu.lane() > local && (graph >> local & 1) != 0;
        if (leaves) rep = found;
        todo &= ~gpu.ballot(leaves);
      }
      if (gpu.lane() == local) rep = found;
    }
    const std::uint64_t added = gpu.ballot((joined >> gpu.lane() & 1) != 0 && own.old != own.i);
    lds.rep[gpu.thread()]     = rep;
    if (gpu.lane() != 0) return;
    lds.kept[stretch_blocks + gpu.wave()] = joined;
    lds.added[gpu.wave()]                 = added;
  }

  /// The nearest of the representatives that cover token block + local: what it has found, and those of `row` within
  /// its block, each by a lane of its own.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t nearest_of(Gpu& gpu, const own_token& own, index_t block, index_t local,
                                                   std::uint64_t row, index_t& pairs) const {
    index_t best    = gpu.read_lane(own.found, local);
    float   product = gpu.shuffle(own.product, local), norm = gpu.shuffle(own.norm, local);
    if (row == 0) return best;
    const index_t mine         = block + gpu.lane();
    float         mine_product = 0, mine_norm = 1;
    if ((row >> gpu.lane() & 1) != 0) {
      mine_product = canonical_product(call.rows.x.row(block + local), call.rows.x.row(mine), call.rows.x.cols);
      mine_norm    = call.rows.norms[mine];
      ++pairs;
    }
    for (; row != 0; row &= row - 1) {
      const auto  source        = static_cast<index_t>(__builtin_ctzll(row));
      const float other_product = gpu.shuffle(mine_product, source), other_norm = gpu.shuffle(mine_norm, source);
      if (best != none && !detail::nearer(other_product, other_norm, product, norm)) continue;
      best = block + source, product = other_product, norm = other_norm;
    }
    return best;
  }

  /// Writes what the stretch has become.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void append(Gpu& gpu, const shared& lds, const own_token& own) const {
    const selection_memory& state  = call.memory;
    const set_prefix        known  = state.known[stretch];
    set_prefix              before = known, after = known;  // this token, the stretch
#pragma GCC unroll 4
    for (index_t w = 0; w < stretch_blocks; ++w) {
      const std::uint64_t joined = lds.kept[stretch_blocks + w], added = lds.added[w];
      after.representatives += voters(joined), after.added += voters(added);
      if (w < gpu.wave()) before = after;
    }
    const std::uint64_t joined = lds.kept[stretch_blocks + gpu.wave()];
    before.representatives += voters_below(gpu, joined);
    before.added += voters_below(gpu, lds.added[gpu.wave()]);
    if (own.i < call.tokens()) {
      call.now.rep[own.i] = lds.rep[gpu.thread()];
      state.prefix[own.i] = before;
      if ((joined >> gpu.lane() & 1) != 0 && before.representatives < call.limit)
        call.now.indices[before.representatives] = own.i;
    }
    if (gpu.thread() == 0)
      state.known[stretch + 1] = {after.representatives > call.limit ? -1 : after.representatives, after.added};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
