#pragma once
// Paper mode: the cross-Gram matrix, tokens that were no representatives x former representatives, before all else.
//
// Of its (T - r) x r products the verdicts stay, one bit each, and check what tokens inherit. Orphans meet all earlier
// representatives as they do in the exact mode (advance.hpp), so the few products that they need are computed twice.

#include "cascada/hip/gram/tile.hpp"
#include "cascada/hip/select/arguments.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Words of 32 verdicts that each token has.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr std::int64_t cross_words(index_t tokens) { return (tokens + 31) / 32; }

/// Whether former representative j covers token i, which was none.
template <matrix_scalar Scalar>
CASCADA_DEVICE CASCADA_INLINE bool cross_covers(const selection_arguments<Scalar>& args, index_t i, index_t j) {
  index_t low = 0, high = *args.before.count - 1;  // place of j among the former ones, which ascend
  while (low < high) {
    const index_t middle = low + (high - low) / 2;
    if (args.before.indices[middle] < j)
      low = middle + 1;
    else
      high = middle;
  }
  return (args.memory.cross[i * cross_words(args.tokens()) + low / 32] >> (low % 32) & 1) != 0;
}

/// One block: 64 tokens against 128 former representatives.
template <matrix_scalar Scalar>
struct selection_cross_gram {
  static constexpr index_t threads = gram_tile::threads;
  static constexpr index_t waves   = 2;

  struct shared {
    gram_tile::shared tile;
    index_t           token[64];  // those of the block that were no representatives
    float             norm[64];
    index_t           row_token[128];
    float             row_norm[128];
    index_t           count;  // of tokens in use
  };

  selection_arguments<Scalar> args;

  index_t grid() const { return args.blocks() * ((args.tokens() + 127) / 128); }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         memory = gpu.template shared<shared>();
    const index_t begin = gpu.block() % args.blocks() * 64, panel = gpu.block() / args.blocks() * 128;
    const index_t former = gpu.uniform(*args.before.count);
    if (panel >= former) return;
    load(gpu, memory, begin, panel, former);
    const index_t count = gpu.uniform(memory.count);
    if (count == 0) return;

    sums_16 sums[2];
    multiply<2>(gpu, memory.tile, args.rows.x, args.rows.x.row(memory.row_token[32 * gpu.wave() + gpu.lane() % 32]),
                memory.token, 64, 0, sums);
    std::int64_t pairs = gpu.thread() == 0 ? std::int64_t{count} * (former - panel < 128 ? former - panel : 128) : 0;
#pragma GCC unroll 2
    for (index_t t = 0; t < 2; ++t) {
      const index_t column = 32 * t + gpu.lane() % 32, first_row = 32 * gpu.wave();
      std::uint32_t bits = column < count ? verdicts(gpu, memory, sums[t], column, former - panel, pairs) : 0;
      bits |= gpu.shuffle(bits, gpu.lane() ^ 32);
      if (gpu.lane() < 32 && column < count && panel + first_row < former)
        args.memory.cross[memory.token[column] * cross_words(args.tokens()) + (panel + first_row) / 32] = bits;
    }
    if (pairs > 0) gpu.atomic_add(&args.memory.counters->pairs_evaluated, pairs);
  }

 private:
  /// The first wave finds the tokens, the next two the representatives: beyond the last one the last once more.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load(Gpu& gpu, shared& memory, index_t begin, index_t panel,
                                          index_t former) const {
    if (gpu.wave() == 0) {
      const index_t       i     = begin + gpu.lane();
      const bool          takes = i < args.tokens() && args.old_rep(i) != i;
      const std::uint64_t mask  = gpu.ballot(takes);
      const index_t       place = __builtin_popcountll(mask & ((std::uint64_t{1} << gpu.lane()) - 1));
      const index_t       count = __builtin_popcountll(mask);
      if (takes) memory.token[place] = i, memory.norm[place] = args.rows.norms[i];
      if (gpu.lane() >= count) memory.token[gpu.lane()] = begin;
      if (gpu.lane() == 0) memory.count = count;
    } else if (gpu.wave() < 3) {
      const index_t row     = gpu.thread() - 64;
      const index_t token   = args.before.indices[panel + row < former ? panel + row : former - 1];
      memory.row_token[row] = token;
      memory.row_norm[row]  = args.rows.norms[token];
    }
    gpu.barrier();
  }

  /// Verdicts of one column on this lane's 16 of the wave's 32 rows, bit by row; those from `rows` on are none.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t verdicts(Gpu& gpu, const shared& memory, const sums_16& sums,
                                                       index_t column, index_t rows, std::int64_t& pairs) const {
    const float       norm = memory.norm[column], scaled = args.rows.threshold * norm;
    const gram_margin margin(args.rows.x.cols, args.rows.threshold, norm);
    const index_t     first_row = 32 * gpu.wave();
    std::uint32_t     bits = 0, unsure = 0;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const index_t row    = row_32(gpu.lane(), v);
      const bool    exists = first_row + row < rows;
      const auto    seen   = margin.judge(sums[v], memory.row_norm[first_row + row]);
      bits |= static_cast<std::uint32_t>(exists & seen.covered) << row;
      unsure |= static_cast<std::uint32_t>(exists & !seen.covered & !seen.apart) << row;
    }
    for (; unsure != 0; unsure &= unsure - 1, ++pairs) {
      const index_t row = __builtin_ctz(unsure);
      const float sum = chain(args.rows.x.row(memory.token[column]), args.rows.x.row(memory.row_token[first_row + row]),
                              args.rows.x.cols);
      bits |= static_cast<std::uint32_t>(covers(sum, scaled, memory.row_norm[first_row + row])) << row;
    }
    return bits;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
