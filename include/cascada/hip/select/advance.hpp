#pragma once
// A launch of the advance through the sequence (call.hpp): one block resolves a stretch, the others compare.
//
// Launch s. The first block resolves stretch s. Each other one has 64 tokens of a later stretch: first those that
// inherit a token of stretch s - 1, which is resolved by now, are checked against what stands for it; the ones that
// fail become orphans. Then searching tokens meet the representatives of stretch s - 1, and new orphans all so far. So
// when a stretch is resolved, its tokens have met all representatives but their neighbours, whose verdicts are in the
// graph.

#include "cascada/hip/select/resolve.hpp"
#include "cascada/hip/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <matrix_scalar Scalar, assignment Assign>
struct selection_advance {
  static constexpr index_t threads = gram_tile::threads;
  static constexpr index_t waves   = 2;

  union shared {  // a block does one of the two
    scan_shared    scan;
    resolve_shared resolve;
  };

  selection_call<Scalar> call;
  index_t                stretch;  // s

  /// In the first launch there is nothing to meet yet.
  index_t grid() const {
    const index_t later = call.blocks() - (stretch + 1) * stretch_blocks;
    return stretch > 0 && later > 0 ? 1 + later : 1;
  }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    static_assert(threads == stretch_tokens);
    auto& memory = gpu.template shared<shared>();
    if (failed(gpu)) return;
    index_t pairs = 0;
    if (gpu.block() == 0)
      stretch_resolution<Scalar, Assign>{call, stretch}(gpu, memory.resolve, pairs);
    else
      meet(gpu, memory.scan, ((stretch + 1) * stretch_blocks + gpu.block() - 1) * block_tokens, pairs);
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

  /// The 64 tokens from `begin` on.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet(Gpu& gpu, scan_shared& memory, index_t begin, index_t& pairs) const {
    const selection_memory& state = call.memory;
    const token_stage       was   = load(gpu, memory, begin);
    check_inherited(gpu, memory, begin, pairs);
    const index_t known = state.known[stretch].representatives, known_before = state.known[stretch - 1].representatives;
#pragma GCC unroll 1
    for (index_t round = 0; round < 2; ++round) {
      const bool part = round == 0 ? searches(gpu, memory, was)
                                   : was == token_stage::awaiting && stage_of(gpu, memory) == token_stage::searching;
      token_scan<Scalar, Assign>{call}(gpu, memory, begin, part, round == 0 ? known_before : 0, known, pairs);
    }
    if (gpu.thread() < block_tokens && begin + gpu.thread() < call.tokens())
      state.progress[begin + gpu.thread()] = {memory.stage[gpu.thread()], memory.match[gpu.thread()].position,
                                              memory.match[gpu.thread()].product};
  }

  /// Returns the stage of this thread's token; threads without one have it settled.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE token_stage load(Gpu& gpu, scan_shared& memory, index_t begin) const {
    token_progress progress;
    if (gpu.thread() < block_tokens) {
      if (begin + gpu.thread() < call.tokens()) progress = call.memory.progress[begin + gpu.thread()];
      memory.stage[gpu.thread()] = progress.stage;
      memory.match[gpu.thread()] = {};
      if (progress.found >= 0)
        memory.match[gpu.thread()] = {progress.found, progress.found_product,
                                      call.rows.norms[call.now.indices[progress.found]]};
    }
    gpu.barrier();
    return progress.stage;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE token_stage stage_of(Gpu& gpu, const scan_shared& memory) const {
    return memory.stage[gpu.thread() % block_tokens];
  }

  /// Whether this thread's token, of that stage, meets the representatives of each stretch. One that awaits a neighbour
  /// and has found what it would take rests until it is asked for.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool searches(Gpu& gpu, const scan_shared& memory, token_stage was) const {
    const bool rests = Assign == assignment::lowest_index && memory.match[gpu.thread() % block_tokens].position >= 0;
    return was == token_stage::searching || (was == token_stage::awaiting_neighbour && !rests);
  }

  /// Each wave checks every fourth token that inherits one of stretch s - 1.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void check_inherited(Gpu& gpu, scan_shared& memory, index_t begin,
                                                     index_t& pairs) const {
    if (!call.before.rep) return;
    const index_t* const rep = call.now.rep;
    for (index_t local = gpu.wave(); local < block_tokens; local += gram_tile::waves) {
      if (begin + local >= call.tokens() || memory.stage[local] != token_stage::awaiting) continue;
      const index_t old = call.old_rep(begin + local);
      if (old / stretch_tokens != stretch - 1) continue;
      const index_t candidate = rep[old];
      const bool    covered   = candidate_covers(gpu, call, begin + local, candidate, pairs);
      if (gpu.lane() != 0) continue;
      if (covered) call.now.rep[begin + local] = candidate;
      memory.stage[local] = covered ? token_stage::settled : token_stage::searching;
    }
    gpu.barrier();
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
