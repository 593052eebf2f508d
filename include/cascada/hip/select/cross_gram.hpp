#pragma once
// Paper mode: the cross-Gram matrix, tokens that were no representatives x former representatives, before all else.
//
// Of its (T - r) x r products the verdicts stay, one bit each, and check what tokens inherit. Tokens search as they do
// in the exact mode (advance.hpp), so the products that they need for it are computed twice.

#include "cascada/ascending.hpp"
#include "cascada/hip/gram/panel.hpp"
#include "cascada/hip/select/call.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// Words of 32 verdicts that each token has.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr std::int64_t cross_words(index_t tokens) { return (tokens + 31) / 32; }

/// Whether former representative j covers token i, which was none.
template <class Call>
CASCADA_DEVICE CASCADA_INLINE bool cross_covers(const Call& call, index_t i, index_t j) {
  const index_t position = detail::first_from(call.before.indices, 0, *call.before.count - 1, j);
  return (call.memory.cross[i * cross_words(call.tokens()) + position / 32] >> (position % 32) & 1) != 0;
}

/// One block: 64 tokens against 128 former representatives.
template <matrix_scalar Scalar>
struct selection_cross_gram {
  static constexpr index_t threads        = gram_tile::threads;
  static constexpr index_t waves_per_simd = 2;

  using shared = gram_panel_shared;  // columns: tokens of the block that were no representatives

  selection_call<Scalar> call;

  /// r is known to the device only.
  index_t grid() const { return call.blocks() * ((call.tokens() - 1) / gram_panel::rows + 1); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         lds    = gpu.template shared<shared>();
    const index_t begin  = gpu.block() % call.blocks() * block_tokens,
                  panel  = gpu.block() / call.blocks() * gram_panel::rows;
    const index_t former = gpu.uniform(*call.before.count);
    if (panel >= former) return;
    const index_t count = gather_panel(
        gpu, lds, call.rows, begin, [&](index_t i) { return i < call.tokens() && call.old_rep(i) != i; },
        [&](index_t r) { return call.before.indices[gram_panel::place(panel, former, r)]; });
    if (count == 0) return;

    const index_t first = panel + 32 * gpu.wave();  // of this wave's rows
    std::int64_t  pairs = gpu.thread() == 0 ? std::int64_t{count} * gram_panel::used(panel, former) : 0;
    judge_panel(
        gpu, lds, call.rows, [&](index_t) { return former - first; },
        [&](index_t column, std::uint32_t bits) {
          if (first >= former) return;
          call.memory.cross[lds.columns.token[column] * cross_words(call.tokens()) + first / 32] = bits;
        },
        pairs);
    if (pairs > 0) gpu.atomic_add(&call.memory.counters->pairs_evaluated, pairs);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
