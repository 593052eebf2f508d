#pragma once
// Verdicts within blocks of 64 tokens, which one wave resolves later.

#include <cstdint>

#include "cascada/hip/gram/tile.hpp"
#include "cascada/hip/select/arguments.hpp"

namespace cascada::inline CASCADA_ABI::hip {

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
      const index_t i            = begin + gpu.thread() < last ? begin + gpu.thread() : last;
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

    const float       norm = memory.norm[column], scaled = rows.threshold * norm;
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

}  // namespace cascada::inline CASCADA_ABI::hip
