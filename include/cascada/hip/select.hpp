#pragma once
// Selection and exact cascade on the device, in kernels that the host launches without ever looking at a result.
//
//   selection_begin    norms of all tokens; what each inherits
//   selection_graph    verdicts within each block of 64 tokens: one 64-bit row a token
//   selection_cross_gram  in paper mode: verdicts of all tokens on all former representatives (cross_gram.hpp)
//   selection_advance  once for each block b: tokens from block b on meet the representatives of block b - 1, and the
//                      first of them, block b itself, is resolved
//   selection_finish   counts and the report; or, where the step has failed, the old state once more
//
// A full selection is a step that inherits nothing, so both run the same code. The set, rep and Gram operations are the
// CPU's: verdicts are (gram.hpp), and the rest is integers.

#include <cstdint>

#include "cascada/hip/gram.hpp"
#include "cascada/report.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::hip {

inline constexpr index_t selection_block = 64;  // tokens that one wave resolves

/// Representatives of one layer in device memory (representatives.hpp gives the shapes).
struct selection_layer {
  index_t* indices = nullptr;  // [T], r in use
  index_t* rep     = nullptr;  // [T]; rep[i] = i where there is no selection
  index_t* counts  = nullptr;  // [T], r in use
  index_t* count   = nullptr;  // [1] r, or -1: no selection
};

/// What a step did, in device memory; cleared before each.
struct selection_counters {
  std::int64_t selection = 0, inherited = 0, validation = 0, orphans = 0;  // Gram operations
  std::int64_t pairs_evaluated = 0;
  index_t      additions = 0, removals = 0, inherited_tokens = 0, orphan_tokens = 0, common = 0;
  index_t      representatives = 0;
  index_t      representatives_before = 0;  // -1: a full selection
  status       answer                 = status::ok;
};

/// What is known of a token that has not met all representatives before it.
enum class token_stage : index_t {
  awaiting,   // the token it inherits is not resolved yet
  searching,  // compared with every representative so far
  settled,
};

/// A token on its way through the selection.
struct token_progress {
  token_stage stage         = token_stage::settled;
  index_t     found         = -1;  // place in R of the covering representative so far
  float       found_product = 0;   // canonical product with it, for assignment::nearest
};

/// Representatives before a token or a block; those of them that were none in the layer before.
struct set_prefix {
  index_t members, added;
};

/// Device memory of a selection of T tokens.
struct selection_memory {
  selection_counters* counters;
  token_progress*     progress;  // [T]
  set_prefix*         before;    // [T]
  std::uint64_t*      graph;     // [T] bit k: token k of the block, an earlier one, covers this token
  set_prefix*         known;     // [blocks + 1] before each block; members -1: the step has failed
  std::uint32_t*      cross;     // null, or paper mode's verdicts (cross_gram.hpp): [T, T / 32 rounded up]
};

/// What every kernel of a selection is given.
template <matrix_scalar Scalar>
struct selection_arguments {
  gram_rows<Scalar> rows;
  selection_memory  memory;
  selection_layer   now;        // to be made
  selection_layer   before;     // inherited; without rep, nothing is
  assignment        assign;
  index_t           limit;      // of representatives

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tokens() const { return rows.x.rows; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t blocks() const {
    return (tokens() + selection_block - 1) / selection_block;
  }

  /// The representative that token i had; with no layer before, every token was one.
  CASCADA_DEVICE CASCADA_INLINE index_t old_rep(index_t i) const { return before.rep ? before.rep[i] : i; }
};

struct no_shared {};

template <matrix_scalar Scalar>
struct selection_begin {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 2;

  selection_arguments<Scalar> args;

  index_t grid() const { return args.blocks() > 0 ? args.blocks() : 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const selection_memory& memory = args.memory;
    const index_t           i      = gpu.block() * threads + gpu.thread();
    if (i == 0) memory.known[0] = {0, 0};
    if (i < args.tokens()) args.now.counts[i] = 0;
    if (i >= args.tokens()) return;

    const float square = chain(args.rows.x.row(i), args.rows.x.row(i), args.rows.x.cols);
    if (!is_finite(square)) memory.counters->answer = status::non_finite_token;
    args.rows.norms[i]        = is_finite(square) ? norm_of(square) : zero_row;
    memory.progress[i]        = {args.old_rep(i) != i ? token_stage::awaiting : token_stage::searching};
  }
};

/// Verdicts of the lower triangle of each 64 x 64 diagonal block.
template <matrix_scalar Scalar>
struct selection_graph {
  static constexpr index_t threads = gram_tile::threads;
  static constexpr index_t waves   = 2;

  struct shared {
    gram_tile::shared tile;
    index_t           token[64];
    float             norm[64];
    std::uint32_t     words[2][64];
  };

  selection_arguments<Scalar> args;

  index_t grid() const { return args.blocks(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         memory = gpu.template shared<shared>();
    const auto&   rows   = args.rows;
    const index_t begin = gpu.block() * 64, last = args.tokens() - 1;
    if (gpu.thread() < 64) {
      const index_t i           = begin + gpu.thread() < last ? begin + gpu.thread() : last;
      memory.token[gpu.thread()] = i;
      memory.norm[gpu.thread()]  = rows.norms[i];
    }
    gpu.barrier();

    // Wave w: rows of half w % 2 against columns of half w / 2.
    const index_t row_half = gpu.wave() % 2, column_half = gpu.wave() / 2;
    const index_t column = 32 * column_half + gpu.lane() % 32, i = memory.token[column];
    sums_16       sums[1];
    multiply<1>(gpu, memory.tile, rows.x, rows.x.row(memory.token[32 * row_half + gpu.lane() % 32]), memory.token, 64,
                column_half, sums);

    const float   norm = memory.norm[column], scaled = rows.threshold * norm;
    const gram_margin margin(rows.x.cols, rows.threshold, norm);
    std::uint32_t     bits = 0, unsure = 0;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const index_t row     = 32 * row_half + row_32(gpu.lane(), v);
      const bool    earlier = (row < column) & (begin + column <= last);
      const auto    seen    = margin.judge(sums[0][v], memory.norm[row]);
      bits |= static_cast<std::uint32_t>(earlier & seen.covered) << (row % 32);
      unsure |= static_cast<std::uint32_t>(earlier & !seen.covered & !seen.apart) << (row % 32);
    }
    std::int64_t rechecks = 0;
    for (; unsure != 0; unsure &= unsure - 1, ++rechecks) {
      const index_t row = 32 * row_half + __builtin_ctz(unsure);
      const float   sum = chain(rows.x.row(i), rows.x.row(begin + row), rows.x.cols);
      bits |= static_cast<std::uint32_t>(covers(sum, scaled, memory.norm[row])) << (row % 32);
    }
    if (rechecks > 0) gpu.atomic_add(&args.memory.counters->pairs_evaluated, rechecks);
    bits |= gpu.shuffle(bits, gpu.lane() ^ 32);
    if (gpu.lane() < 32) memory.words[row_half][column] = bits;
    gpu.barrier();

    const index_t thread = gpu.thread();
    if (thread < 64 && begin + thread <= last)
      args.memory.graph[begin + thread] = memory.words[0][thread] | std::uint64_t{memory.words[1][thread]} << 32;
    if (thread == 0) {
      const std::int64_t size = last - begin < 63 ? last - begin + 1 : 64;
      gpu.atomic_add(&args.memory.counters->pairs_evaluated, size * (size - 1) / 2);
    }
  }
};

/// A covering representative: its place in R and, for assignment::nearest, its norm and the canonical product.
struct device_match {
  index_t place   = -1;
  float   product = 0;
  float   norm    = 1;
};

/// Whether `a` takes the place of `b`: of two, the lower one, or the nearer one with ties to the lower.
CASCADA_DEVICE CASCADA_INLINE bool replaces(const device_match& a, const device_match& b, assignment assign) {
  if (a.place < 0 || b.place < 0) return a.place >= 0;
  if (assign == assignment::lowest_index) return a.place < b.place;
  if (nearer(a.product, a.norm, b.product, b.norm)) return true;
  return a.place < b.place && !nearer(b.product, b.norm, a.product, a.norm);
}

/// Counts and the report (cpu/count.hpp says how they follow from the result). One block.
template <matrix_scalar Scalar>
struct selection_finish {
  using shared                     = no_shared;
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = 2;

  selection_arguments<Scalar> args;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t known = args.memory.known[args.blocks()].members;
    if (known < 0 || args.memory.counters->answer != status::ok) {
      keep_old(gpu);
      return;
    }
    selection_counters sums;
    const bool         inherits = args.before.rep && *args.before.count >= 0;
    for (index_t i = gpu.thread(); i < args.tokens(); i += threads) {
      gpu.atomic_add(args.now.counts + args.memory.before[args.now.rep[i]].members, index_t{1});
      if (inherits)
        count_inherited(i, sums);
      else
        sums.selection += scan_of(i).members;
    }
    add(gpu, sums);
    if (gpu.thread() != 0) return;
    *args.now.count                               = known;
    args.memory.counters->representatives        = known;
    args.memory.counters->representatives_before = inherits ? *args.before.count : -1;
  }

 private:
  struct scan_length {
    index_t members, added;  // representatives compared with; those of them that are additions
  };

  CASCADA_DEVICE CASCADA_INLINE scan_length scan_of(index_t i) const {
    const selection_memory& memory = args.memory;
    const index_t           rep    = args.now.rep[i];
    if (rep == i || args.assign == assignment::nearest) return {memory.before[i].members, memory.before[i].added};
    return {memory.before[rep].members + 1, memory.before[rep].added + (args.old_rep(rep) != rep)};
  }

  CASCADA_DEVICE CASCADA_INLINE void count_inherited(index_t i, selection_counters& sums) const {
    const index_t old = args.old_rep(i), rep = args.now.rep[i];
    const auto    length = scan_of(i);
    const bool    cross = args.memory.cross != nullptr;
    if (old == i) {
      sums.validation += length.members;
      sums.removals += rep != i;
      sums.common += rep == i;
      return;
    }
    const index_t candidate = args.now.rep[old];
    const bool    new_one = args.old_rep(candidate) != candidate;
    const bool    within  = args.memory.before[candidate].members < length.members;
    sums.inherited += !cross || new_one;
    if (rep == candidate) {
      ++sums.inherited_tokens;
    } else {
      ++sums.orphan_tokens;
      // The pair with the candidate is known by then, and in paper mode every pair with a former representative is.
      sums.orphans += cross ? length.added - (new_one && within) : length.members - within;
    }
    sums.additions += rep == i;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void add(Gpu& gpu, const selection_counters& sums) const {
    selection_counters& total = *args.memory.counters;
    gpu.atomic_add(&total.selection, sums.selection);
    gpu.atomic_add(&total.inherited, sums.inherited);
    gpu.atomic_add(&total.validation, sums.validation);
    gpu.atomic_add(&total.orphans, sums.orphans);
    gpu.atomic_add(&total.additions, sums.additions);
    gpu.atomic_add(&total.removals, sums.removals);
    gpu.atomic_add(&total.inherited_tokens, sums.inherited_tokens);
    gpu.atomic_add(&total.orphan_tokens, sums.orphan_tokens);
    gpu.atomic_add(&total.common, sums.common);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void keep_old(Gpu& gpu) const {
    const selection_layer& before = args.before;
    const index_t          count  = before.rep ? *before.count : -1;
    for (index_t i = gpu.thread(); i < args.tokens(); i += threads) args.now.rep[i] = args.old_rep(i);
    for (index_t k = gpu.thread(); k < count; k += threads)
      args.now.indices[k] = before.indices[k], args.now.counts[k] = before.counts[k];
    gpu.barrier();
    if (gpu.thread() != 0) return;
    *args.now.count = count;
    // Too many representatives leave no other trace.
    if (args.memory.counters->answer == status::ok) args.memory.counters->answer = status::workspace_too_small;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
