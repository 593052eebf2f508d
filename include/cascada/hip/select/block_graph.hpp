#pragma once
// Verdicts within blocks of 64 tokens, which one wave resolves later.

#include <cstdint>

#include "cascada/hip/gram/tile.hpp"
#include "cascada/hip/select/call.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// Verdicts of the lower triangle of each 64 x 64 diagonal block.
template <matrix_scalar Scalar>
struct selection_graph {
  static constexpr index_t threads = gram_tile::threads;
  static constexpr index_t waves   = 2;

  struct shared {
    gram_tile::shared tile;
    gram_columns      columns;
    std::uint32_t     words[2][block_tokens];
  };

  selection_call<Scalar> call;

  index_t grid() const { return call.blocks(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         memory = gpu.template shared<shared>();
    const auto&   rows   = call.rows;
    const index_t begin = gpu.block() * block_tokens, last = call.tokens() - 1;
    if (gpu.wave() == 0) memory.columns.gather(gpu, rows, begin, begin + gpu.lane() <= last, gpu.lane());
    gpu.barrier();

    // Wave w: rows of half w % 2 against columns of half w / 2.
    const index_t        row_half = gpu.wave() % 2, column_half = gpu.wave() / 2;
    const index_t        column = 32 * column_half + gpu.lane() % 32;
    const index_t* const token  = memory.columns.token;
    const float* const   norm   = memory.columns.norm;
    sums_16              sums[1];
    multiply<1>(gpu, memory.tile, rows.x, rows.x.row(token[32 * row_half + gpu.lane() % 32]), token, block_tokens,
                column_half, sums);

    const index_t       earlier  = begin + column <= last ? column - 32 * row_half : 0;  // rows
    std::int64_t        rechecks = 0;
    const std::uint32_t bits     = rows_that_cover(gpu, judged_token(rows, token[column], norm[column]), sums[0],
                                                   token + 32 * row_half, norm + 32 * row_half, earlier, rechecks);
    if (rechecks > 0) gpu.atomic_add(&call.memory.counters->pairs_evaluated, rechecks);
    if (gpu.lane() < 32) memory.words[row_half][column] = bits;
    gpu.barrier();

    const index_t thread = gpu.thread();
    if (thread < block_tokens && begin + thread <= last)
      call.memory.graph[begin + thread] = memory.words[0][thread] | std::uint64_t{memory.words[1][thread]} << 32;
    if (thread == 0) {
      const std::int64_t size = last - begin < 63 ? last - begin + 1 : 64;
      gpu.atomic_add(&call.memory.counters->pairs_evaluated, size * (size - 1) / 2);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
