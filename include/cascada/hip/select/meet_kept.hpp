#pragma once
// New tokens of a set that grows meet all representatives so far.
//
// These are cut into parts, each of which a block has for 32 tokens: one token would else keep one compute unit busy,
// and all others idle. No part settles what it finds, since another one may have an earlier or a nearer one.

#include "cascada/hip/select/extension.hpp"
#include "cascada/hip/select/scanned_tokens.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// One block: 32 tokens against a part of R. The first part's also checks those that inherit one of R.
template <matrix_scalar Scalar, assignment Assign>
struct meet_kept {
  using shared                            = scan_shared;
  static constexpr index_t threads        = gram_tile::threads;
  static constexpr index_t waves_per_simd = 2;

  extension_call<Scalar> of;

  index_t grid() const { return of.token_blocks() * of.parts(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         lds   = gpu.template shared<shared>();
    const index_t begin = gpu.block() % of.token_blocks() * scan_tokens, part = gpu.block() / of.token_blocks();
    const index_t kept = gpu.uniform(of.kept());
    if (kept <= 0 || part >= of.parts_in_use()) return;
    index_t                                                                  pairs = 0;
    const scanned_tokens<Assign, typename extension_call<Scalar>::selection> tokens{of.call, begin};
    const index_t                                                            i = begin + gpu.thread();
    const bool exists = gpu.thread() < scan_tokens && i < of.call.tokens();
    if (part == 0) {
      tokens.load(gpu, lds);
      tokens.check_inherited(gpu, lds, 0, pairs);
      if (exists) of.call.memory.progress[i].stage = lds.stage[gpu.thread()];
    }
    if (gpu.thread() < scan_tokens && (part > 0 || lds.stage[gpu.thread()] != token_stage::settled)) {
      lds.stage[gpu.thread()] = exists ? token_stage::awaiting : token_stage::settled;
      lds.match[gpu.thread()] = {};
    }
    tokens.scan(gpu, lds, of.part_begin(part), of.part_begin(part + 1), pairs);
    if (exists) of.met[std::int64_t{part} * of.call.tokens() + i] = lds.match[gpu.thread()];
    if (pairs > 0) gpu.atomic_add(&of.call.memory.counters->pairs_evaluated, std::int64_t{pairs});
  }
};

/// Each token takes one of those that the parts have for it, and settles if it awaits nothing.
template <matrix_scalar Scalar, assignment Assign>
struct join_kept {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 2;

  extension_call<Scalar> of;

  index_t grid() const { return of.call.blocks(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t i = gpu.block() * threads + gpu.thread();
    if (of.kept() <= 0 || i >= of.call.tokens()) return;
    token_progress& own = of.call.memory.progress[i];
    if (own.stage == token_stage::settled) return;
    covering_row best;
    for (index_t part = 0; part < of.parts_in_use(); ++part) {
      const covering_row found = of.met[std::int64_t{part} * of.call.tokens() + i];
      if (takes<Assign>(found, best)) best = found;
    }
    const bool settles = own.stage == token_stage::searching && ends_search<Assign>(best);
    if (settles) of.call.now.rep[i] = of.set.number_of(best.place);
    own = {settles ? token_stage::settled : own.stage, best.place, best.product};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
