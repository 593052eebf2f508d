#pragma once
// A launch of the advance through the sequence (call.hpp): one block resolves a stretch, the others compare.
//
// Launch s. The first block resolves stretch s. Each other one has 32 tokens of a later stretch: first those that
// inherit a token of stretch s - 1, which is resolved by now, are checked against what stands for it; the ones that
// fail become orphans. Then all that are not settled meet the representatives of stretch s - 1. So when a stretch is
// resolved, its tokens have met all representatives but their neighbours, whose verdicts are in the graph.
//
// Those that still await what they inherit have met them, too, for nothing in most cases: an orphan that began then
// would have all representatives to meet in one launch, and the others would wait for it.

#include "cascada/hip/select/inherit.hpp"
#include "cascada/hip/select/resolve.hpp"
#include "cascada/hip/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <matrix_scalar Scalar, assignment Assign>
struct selection_advance {
  static constexpr index_t threads        = gram_tile::threads;
  static constexpr index_t waves_per_simd = 2;

  union shared {  // a block does one of the two
    scan_shared    scan;
    resolve_shared resolve;
  };

  selection_call<Scalar> call;
  index_t                stretch;  // s

  /// In the first launch there is nothing to meet yet.
  index_t grid() const {
    const index_t later = call.tokens() - (stretch + 1) * stretch_tokens;
    return stretch > 0 && later > 0 ? 1 + (later - 1) / scan_tokens + 1 : 1;
  }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    static_assert(threads == stretch_tokens);
    auto& lds = gpu.template shared<shared>();
    if (failed(gpu)) return;
    index_t pairs = 0;
    if (gpu.block() == 0)
      stretch_resolution<Scalar, Assign>{call, stretch}(gpu, lds.resolve, pairs);
    else
      meet(gpu, lds.scan, (stretch + 1) * stretch_tokens + (gpu.block() - 1) * scan_tokens, pairs);
    if (pairs > 0) gpu.atomic_add(&call.memory.counters->pairs_evaluated, std::int64_t{pairs});
  }

 private:
  /// A step that has failed does nothing more. `known` is written by launches before this one, so all lanes agree.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool failed(Gpu& gpu) const {
    const bool non_finite = stretch == 0 && call.memory.counters->answer != status::ok;
    const bool failed     = non_finite || call.memory.known[stretch].representatives < 0;
    if (failed && gpu.block() == 0 && gpu.thread() == 0) call.memory.known[stretch + 1] = {-1, 0};
    return failed;
  }

  /// The 32 tokens from `begin` on.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet(Gpu& gpu, scan_shared& lds, index_t begin, index_t& pairs) const {
    const selection_memory& state = call.memory;
    load(gpu, lds, begin);
    check_inherited(gpu, lds, begin, pairs);
    token_scan<Scalar, Assign>{call}(gpu, lds, begin, searches(gpu, lds), state.known[stretch - 1].representatives,
                                     state.known[stretch].representatives, pairs);
    if (gpu.thread() < scan_tokens && begin + gpu.thread() < call.tokens())
      state.progress[begin + gpu.thread()] = {lds.stage[gpu.thread()], lds.match[gpu.thread()].place,
                                              lds.match[gpu.thread()].product};
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load(Gpu& gpu, scan_shared& lds, index_t begin) const {
    if (gpu.thread() < scan_tokens) {
      const index_t        i        = begin + gpu.thread();
      const token_progress progress = i < call.tokens() ? call.memory.progress[i] : token_progress{};
      lds.stage[gpu.thread()]       = progress.stage;
      lds.match[gpu.thread()]       = {};
      if (progress.found >= 0)
        lds.match[gpu.thread()] = {progress.found, progress.found_product,
                                   call.rows.norms[call.now.indices[progress.found]]};
    }
    gpu.barrier();
  }

  /// Whether this thread's token looks further. One that is not settled but has found a representative would take no
  /// other, unless a nearer one.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool searches(Gpu& gpu, const scan_shared& lds) const {
    if (gpu.thread() >= scan_tokens || lds.stage[gpu.thread()] == token_stage::settled) return false;
    return Assign == assignment::nearest || lds.match[gpu.thread()].none();
  }

  /// Each wave checks every fourth token that inherits one of stretch s - 1.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void check_inherited(Gpu& gpu, scan_shared& lds, index_t begin, index_t& pairs) const {
    if (!call.before.rep) return;
    const index_t local = gpu.wave() + gram_tile::waves * gpu.lane(), i = begin + local;
    const bool    waits     = local < scan_tokens && i < call.tokens() && lds.stage[local] == token_stage::awaiting;
    const index_t old       = waits ? call.old_rep(i) : 0;
    const bool    asks      = waits && old / stretch_tokens == stretch - 1;
    const index_t candidate = asks ? call.now.rep[old] : 0;
    const bool    covered   = own_candidate_covers(gpu, call, asks, i, candidate, pairs);
    if (covered) call.now.rep[i] = candidate;
    if (asks) lds.stage[local] = covered ? token_stage::settled : token_stage::searching;
    gpu.barrier();
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
