#pragma once
// One block's advance through the sequence (select.hpp): the kernel that compares, and resolves.
//
// Launch b, block of threads t: tokens of block b + t. First those that inherit a token of block b - 1, which is
// resolved by now, are checked against what stands for it; the ones that fail become orphans. Then searching tokens meet
// the representatives of block b - 1, and new orphans all so far. Block b has then met all before it, and its first wave
// walks its tokens in order, with what the graph says about pairs within.

#include "cascada/hip/cross_gram.hpp"

namespace cascada::hip {

/// Tokens of a block that meet representatives, and what they have found. Tokens leave as they are settled.
struct search_shared {
  static constexpr index_t slices = 2 * gram_tile::waves;  // of 128 representatives: rows that one lane sees

  gram_tile::shared tile;
  index_t           active[64];     // local token of each column
  index_t           token[64];      // its index
  float             norm[64];
  device_match      match[64];      // by local token
  token_stage       stage[64];      // by local token
  index_t           row_token[128];
  float             row_norm[128];
  device_match      partial[slices][64];
  index_t           count;          // of columns in use
};

template <matrix_scalar Scalar, assignment Assign>
struct selection_advance {
  using shared                     = search_shared;
  static constexpr index_t threads = gram_tile::threads;
  static constexpr index_t waves   = 2;

  selection_arguments<Scalar> args;
  index_t                     step;  // b

  index_t grid() const { return args.blocks() - step; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&                   memory = gpu.template shared<shared>();
    const selection_memory& state  = args.memory;
    const index_t           begin  = (step + gpu.block()) * 64;
    if (failed(gpu)) return;

    index_t pairs = 0;
    load(gpu, memory, begin);
    check_inherited(gpu, memory, begin, pairs);
    const index_t known = state.known[step].members, known_before = step > 0 ? state.known[step - 1].members : 0;
    const bool    mine = gpu.thread() < 64 && begin + gpu.thread() < args.tokens();
    const auto    was  = mine ? state.progress[begin + gpu.thread()].stage : token_stage::settled;
    // Tokens that search already, new orphans, and in the block to be resolved those that may become orphans in it.
#pragma GCC unroll 1
    for (index_t round = 0; round < 3; ++round) {
      if (round == 2 && gpu.block() != 0) break;
      const bool part = round == 0   ? was == token_stage::searching
                        : round == 1 ? was == token_stage::awaiting && is_searching(gpu, memory)
                                     : at_risk(gpu, memory, begin);
      search(gpu, memory, begin, part, round == 0 ? known_before : 0, known, pairs);
    }
    if (gpu.block() == 0 && gpu.wave() == 0) resolve(gpu, memory, begin, pairs);
    if (mine)
      state.progress[begin + gpu.thread()] = {memory.stage[gpu.thread()], memory.match[gpu.thread()].place,
                                              memory.match[gpu.thread()].product};
    if (pairs > 0) gpu.atomic_add(&state.counters->pairs_evaluated, std::int64_t{pairs});
  }

 private:
  /// A step that has failed does nothing more. `known` is written by launches before this one, so all lanes agree.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool failed(Gpu& gpu) const {
    const bool non_finite = step == 0 && args.memory.counters->answer != status::ok;
    const bool failed     = non_finite || args.memory.known[step].members < 0;
    if (failed && gpu.block() == 0 && gpu.thread() == 0) args.memory.known[step + 1] = {-1, 0};
    return failed;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load(Gpu& gpu, shared& memory, index_t begin) const {
    if (gpu.thread() < 64) {
      const index_t        i         = begin + gpu.thread();
      const token_progress progress  = i < args.tokens() ? args.memory.progress[i] : token_progress{};
      memory.stage[gpu.thread()]     = progress.stage;
      memory.match[gpu.thread()]     = {};
      if (progress.found >= 0)
        memory.match[gpu.thread()] = {progress.found, progress.found_product,
                                      args.rows.norms[args.now.indices[progress.found]]};
    }
    gpu.barrier();
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool is_searching(Gpu& gpu, const shared& memory) const {
    return memory.stage[gpu.thread() % 64] == token_stage::searching;
  }

  /// Each wave checks every fourth token that inherits one of block b - 1.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void check_inherited(Gpu& gpu, shared& memory, index_t begin, index_t& pairs) const {
    if (step == 0 || !args.before.rep) return;
    const index_t* const rep = args.now.rep;
    for (index_t local = gpu.wave(); local < 64; local += gram_tile::waves) {
      if (begin + local >= args.tokens() || memory.stage[local] != token_stage::awaiting) continue;
      const index_t old = args.old_rep(begin + local);
      if (old / 64 != step - 1) continue;
      const index_t candidate = rep[old];
      const bool    covered   = inherits(gpu, begin + local, candidate, pairs);
      if (gpu.lane() != 0) continue;
      if (covered) args.now.rep[begin + local] = candidate;
      memory.stage[local] = covered ? token_stage::settled : token_stage::searching;
    }
    gpu.barrier();
  }

  /// Whether the candidate, of an earlier block, covers token i: by the cross-Gram verdict where there is one.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool inherits(Gpu& gpu, index_t i, index_t candidate, index_t& pairs) const {
    if (args.memory.cross && args.old_rep(candidate) == candidate) return cross_covers(args, i, candidate);
    pairs += gpu.lane() == 0;
    return wave_covers(gpu, args.rows, i, candidate, pairs);
  }

  /// Whether this thread's token waits for one of its own block that may not remain a representative, or does not cover
  /// it: it may have to be compared with all.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool at_risk(Gpu& gpu, shared& memory, index_t begin) const {
    if (gpu.thread() >= 64 || memory.stage[gpu.thread()] != token_stage::awaiting) return false;
    const index_t i = begin + gpu.thread(), old = args.old_rep(i);
    const bool    covered = (args.memory.graph[i] >> (old - begin) & 1) != 0;
    return !covered || memory.match[old - begin].place >= 0 || args.memory.graph[old] != 0;
  }

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

  /// Compares the tokens of threads that take `part` with representatives [first, last), 128 at a time.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void search(Gpu& gpu, shared& memory, index_t begin, bool part, index_t first,
                                            index_t last, index_t& pairs) const {
    if (first >= last) return;
    gather(gpu, memory, begin, part, gpu.thread());
    for (index_t panel = first; panel < last; panel += 128) {
      const index_t count = gpu.uniform(memory.count);
      if (count == 0) break;
      if (gpu.thread() == 0) pairs += count * (last - panel < 128 ? last - panel : 128);
      if (gpu.thread() < 128) {
        const index_t place             = panel + gpu.thread() < last ? panel + gpu.thread() : last - 1;
        const index_t token             = args.now.indices[place];
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
    constexpr bool    nearest = Assign == assignment::nearest;
    const float       norm = memory.norm[column], scaled = args.rows.threshold * norm;
    const gram_margin margin(args.rows.x.cols, args.rows.threshold, norm);
    const index_t     first_row = 32 * gpu.wave();
    const device_match so_far   = memory.match[memory.active[column]];

    std::uint32_t sure = 0, possible = 0;
    float         least = so_far.place < 0 ? 0.0f : so_far.product / so_far.norm;  // that the nearest one has
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const index_t row      = first_row + row_32(gpu.lane(), v);
      const float   row_norm = memory.row_norm[row];
      const bool    exists = panel + row < last;
      const auto    seen   = margin.judge(sums[v], row_norm);
      const bool    covers = exists & seen.covered;
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
      const index_t row     = first_row + row_32(gpu.lane(), __builtin_ctz(asked));
      const float   product = chain(args.rows.x.row(memory.token[column]), args.rows.x.row(memory.row_token[row]),
                                    args.rows.x.cols);
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
        memory.stage[local]                       = token_stage::settled;
        args.now.rep[begin + local] = args.now.indices[best.place];
      }
    }
    gather(gpu, memory, begin, stays, local);
  }

  /// Walks the 64 tokens of block b in order; lane l has token l. One wave, ballots and lane reads.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void resolve(Gpu& gpu, shared& memory, index_t begin, index_t& pairs) const {
    const index_t       i      = begin + gpu.lane();
    const bool          exists = i < args.tokens();
    constexpr bool      lowest = Assign == assignment::lowest_index;
    index_t* const      reps   = args.now.rep;
    const index_t* const indices = args.now.indices;
    const std::uint64_t graph  = exists ? args.memory.graph[i] : 0;
    const index_t       stage  = static_cast<index_t>(memory.stage[gpu.lane()]);
    const index_t       old    = exists ? args.old_rep(i) : i;
    const index_t       place  = memory.match[gpu.lane()].place;
    index_t             rep    = exists && stage == settled ? reps[i] : -1;

    std::uint64_t members = 0;
    for (std::uint64_t todo = gpu.ballot(stage != settled); todo != 0;) {
      const auto          local = static_cast<index_t>(__builtin_ctzll(todo));
      const std::uint64_t row   = gpu.read_lane(graph, local);
      todo &= todo - 1;
      index_t found = -1;
      if (gpu.read_lane(stage, local) == awaiting) {
        const index_t candidate = gpu.read_lane(rep, gpu.read_lane(old, local) - begin);
        const bool    covered   = candidate >= begin ? (row >> (candidate - begin) & 1) != 0
                                                     : inherits(gpu, begin + local, candidate, pairs);
        if (covered) found = candidate;
      }
      if (found < 0) {
        const index_t known = gpu.read_lane(place, local);
        if constexpr (!lowest)
          found = nearest_of(gpu, memory, begin, local, row & members, pairs);
        else if (known >= 0)
          found = indices[known];
        else if ((row & members) != 0)
          found = begin + __builtin_ctzll(row & members);
      }
      if (found < 0) {
        found = begin + local;
        members |= std::uint64_t{1} << local;
        // Searching tokens that nothing covered so far leave together: this is their lowest representative.
        const bool leaves =
            lowest && stage == searching && rep < 0 && place < 0 && gpu.lane() > local && (graph >> local & 1) != 0;
        if (leaves) rep = found;
        todo &= ~gpu.ballot(leaves);
      }
      if (gpu.lane() == local) rep = found;
    }
    append(gpu, begin, members, old != i, rep);
    memory.stage[gpu.lane()] = token_stage::settled;
  }

  /// The nearest of the representatives that cover token begin + local: the match of the search, and `row` within the
  /// block, each by a lane of its own. -1: none.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t nearest_of(Gpu& gpu, shared& memory, index_t begin, index_t local,
                                                   std::uint64_t row, index_t& pairs) const {
    const device_match known = memory.match[local];
    index_t            best  = known.place < 0 ? -1 : args.now.indices[known.place];
    float              product = known.product, norm = known.norm;
    if (row == 0) return best;
    const index_t mine = begin + gpu.lane();
    float         mine_product = 0, mine_norm = 1;
    if ((row >> gpu.lane() & 1) != 0) {
      mine_product = chain(args.rows.x.row(begin + local), args.rows.x.row(mine), args.rows.x.cols);
      mine_norm    = args.rows.norms[mine];
      ++pairs;
    }
    for (; row != 0; row &= row - 1) {
      const auto  source        = static_cast<index_t>(__builtin_ctzll(row));
      const float other_product = gpu.shuffle(mine_product, source), other_norm = gpu.shuffle(mine_norm, source);
      if (best >= 0 && !nearer(other_product, other_norm, product, norm)) continue;
      best = begin + source, product = other_product, norm = other_norm;
    }
    return best;
  }

  /// Writes what block b has become.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void append(Gpu& gpu, index_t begin, std::uint64_t members, bool addition,
                                            index_t rep) const {
    const selection_memory& state  = args.memory;
    const index_t           i      = begin + gpu.lane();
    const std::uint64_t     before = (std::uint64_t{1} << gpu.lane()) - 1;
    const bool              member = (members >> gpu.lane() & 1) != 0;
    const std::uint64_t     added  = gpu.ballot(member && addition);
    const set_prefix        known  = state.known[step];
    const index_t           place  = known.members + __builtin_popcountll(members & before);
    if (i < args.tokens()) {
      args.now.rep[i] = rep;
      state.before[i] = {place, known.added + __builtin_popcountll(added & before)};
      if (member && place < args.limit) args.now.indices[place] = i;
    }
    if (gpu.lane() != 0) return;
    const index_t all     = known.members + __builtin_popcountll(members);
    state.known[step + 1] = {all > args.limit ? -1 : all, known.added + __builtin_popcountll(added)};
  }

  static constexpr auto awaiting  = static_cast<index_t>(token_stage::awaiting);
  static constexpr auto searching = static_cast<index_t>(token_stage::searching);
  static constexpr auto settled   = static_cast<index_t>(token_stage::settled);
};

}  // namespace cascada::hip
