#pragma once
// The threshold graph near its diagonal: verdicts on neighbours, with which stretches are resolved later.

#include <cstdint>

#include "cascada/hip/gram/panel.hpp"
#include "cascada/hip/select/call.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// One block: 64 tokens against 128 of their neighbours. Panels that lie behind the tokens are left out, and nobody
/// looks at their words.
template <matrix_scalar Scalar>
struct selection_graph {
  using shared                            = gram_panel_shared;
  static constexpr index_t threads        = gram_tile::threads;
  static constexpr index_t waves_per_simd = 2;
  static constexpr index_t panels         = 2 * stretch_tokens / gram_panel::rows;

  selection_call<Scalar> call;

  index_t grid() const { return call.blocks() * panels; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         lds   = gpu.template shared<shared>();
    const index_t begin = gpu.block() / panels * block_tokens, number = gpu.block() % panels * gram_panel::rows,
                  panel = call.first_neighbour(begin) + number, end = call.tokens();
    if (panel < 0 || panel >= begin + block_tokens) return;
    const index_t count = gather_panel(
        gpu, lds, call.rows, begin, [&](index_t i) { return i < end; },
        [&](index_t r) { return gram_panel::place(panel, end, r); });
    const index_t first = 32 * gpu.wave();
    std::int64_t  pairs = gpu.thread() == 0 ? pairs_of(count, begin - panel) : 0;
    judge_panel(
        gpu, lds, call.rows, [&](index_t column) { return begin + column - panel - first; },
        [&](index_t column, std::uint32_t bits) {
          call.memory.graph[std::int64_t{begin + column} * neighbour_words + (number + first) / 32] = bits;
        },
        pairs);
    if (pairs > 0) gpu.atomic_add(&call.memory.counters->pairs_evaluated, pairs);
  }

 private:
  /// Pairs of `count` successive tokens and rows before them, the first of which lies `distance` before the first.
  CASCADA_DEVICE CASCADA_INLINE static std::int64_t pairs_of(index_t count, index_t distance) {
    return distance >= gram_panel::rows ? count * gram_panel::rows : count * distance + count * (count - 1) / 2;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
