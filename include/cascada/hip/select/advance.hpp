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

#include "cascada/hip/select/resolve.hpp"
#include "cascada/hip/select/scanned_tokens.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <matrix_scalar Scalar, assignment Assign, template <class> class Rows = gram_rows>
struct selection_advance {
  static constexpr index_t threads        = gram_tile::threads;
  static constexpr index_t waves_per_simd = 2;

  union shared {  // a block does one of the two
    scan_shared    scan;
    resolve_shared resolve;
  };

  selection_call<Scalar, Rows> call;
  index_t                      stretch;  // s

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
      stretch_resolution<Assign, selection_call<Scalar, Rows>>{call, stretch}(gpu, lds.resolve, pairs);
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
    const set_prefix* const                                    known = call.memory.known;
    const scanned_tokens<Assign, selection_call<Scalar, Rows>> tokens{call, begin};
    tokens.load(gpu, lds);
    tokens.check_inherited(gpu, lds, stretch * stretch_tokens, pairs);
    tokens.scan(gpu, lds, known[stretch - 1].representatives, known[stretch].representatives, pairs);
    tokens.store(gpu, lds);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
