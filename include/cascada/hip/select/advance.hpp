#pragma once
// One block's advance through the sequence (call.hpp): the kernel that compares, and resolves.
//
// Launch b, block of threads t: tokens of block b + t. First those that inherit a token of block b - 1, which is
// resolved by now, are checked against what stands for it; the ones that fail become orphans. Then searching tokens
// meet the representatives of block b - 1, and new orphans all so far. Block b has then met all before it, and its
// first wave walks its tokens in order, with what the graph says about pairs within.

#include "cascada/hip/select/resolve.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <matrix_scalar Scalar, assignment Assign>
struct selection_advance {
  using shared                     = scan_shared;
  static constexpr index_t threads = gram_tile::threads;
  static constexpr index_t waves   = 2;

  selection_call<Scalar> call;
  index_t                resolved_block;  // b

  index_t grid() const { return call.blocks() - resolved_block; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&                   memory = gpu.template shared<shared>();
    const selection_memory& state  = call.memory;
    const index_t           begin  = (resolved_block + gpu.block()) * block_tokens;
    if (failed(gpu)) return;

    index_t pairs = 0;
    load(gpu, memory, begin);
    check_inherited(gpu, memory, begin, pairs);
    const index_t known        = state.known[resolved_block].representatives,
                  known_before = resolved_block > 0 ? state.known[resolved_block - 1].representatives : 0;
    const bool mine            = gpu.thread() < block_tokens && begin + gpu.thread() < call.tokens();
    const auto was             = mine ? state.progress[begin + gpu.thread()].stage : token_stage::settled;
    // Tokens that search already, new orphans, and in the block to be resolved those that may become orphans in it.
#pragma GCC unroll 1
    for (index_t round = 0; round < 3; ++round) {
      if (round == 2 && gpu.block() != 0) break;
      const bool part = round == 0   ? was == token_stage::searching
                        : round == 1 ? was == token_stage::awaiting && is_searching(gpu, memory)
                                     : at_risk(gpu, memory, begin);
      token_scan<Scalar, Assign>{call}(gpu, memory, begin, part, round == 0 ? known_before : 0, known, pairs);
    }
    if (gpu.block() == 0 && gpu.wave() == 0) resolution()(gpu, memory, begin, pairs);
    if (mine)
      state.progress[begin + gpu.thread()] = {memory.stage[gpu.thread()], memory.match[gpu.thread()].position,
                                              memory.match[gpu.thread()].product};
    if (pairs > 0) gpu.atomic_add(&state.counters->pairs_evaluated, std::int64_t{pairs});
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE block_resolution<Scalar, Assign> resolution() const { return {call, resolved_block}; }

  /// A step that has failed does nothing more. `known` is written by launches before this one, so all lanes agree.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool failed(Gpu& gpu) const {
    const bool non_finite = resolved_block == 0 && call.memory.counters->answer != status::ok;
    const bool failed     = non_finite || call.memory.known[resolved_block].representatives < 0;
    if (failed && gpu.block() == 0 && gpu.thread() == 0) call.memory.known[resolved_block + 1] = {-1, 0};
    return failed;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load(Gpu& gpu, shared& memory, index_t begin) const {
    if (gpu.thread() < block_tokens) {
      const index_t        i        = begin + gpu.thread();
      const token_progress progress = i < call.tokens() ? call.memory.progress[i] : token_progress{};
      memory.stage[gpu.thread()]    = progress.stage;
      memory.match[gpu.thread()]    = {};
      if (progress.found >= 0)
        memory.match[gpu.thread()] = {progress.found, progress.found_product,
                                      call.rows.norms[call.now.indices[progress.found]]};
    }
    gpu.barrier();
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool is_searching(Gpu& gpu, const shared& memory) const {
    return memory.stage[gpu.thread() % block_tokens] == token_stage::searching;
  }

  /// Each wave checks every fourth token that inherits one of block b - 1.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void check_inherited(Gpu& gpu, shared& memory, index_t begin, index_t& pairs) const {
    if (resolved_block == 0 || !call.before.rep) return;
    const index_t* const rep = call.now.rep;
    for (index_t local = gpu.wave(); local < block_tokens; local += gram_tile::waves) {
      if (begin + local >= call.tokens() || memory.stage[local] != token_stage::awaiting) continue;
      const index_t old = call.old_rep(begin + local);
      if (old / block_tokens != resolved_block - 1) continue;
      const index_t candidate = rep[old];
      const bool    covered   = resolution().inherits(gpu, begin + local, candidate, pairs);
      if (gpu.lane() != 0) continue;
      if (covered) call.now.rep[begin + local] = candidate;
      memory.stage[local] = covered ? token_stage::settled : token_stage::searching;
    }
    gpu.barrier();
  }

  /// Whether this thread's token waits for one of its own block that may not remain a representative, or does not cover
  /// it: it may have to be compared with all.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool at_risk(Gpu& gpu, shared& memory, index_t begin) const {
    if (gpu.thread() >= block_tokens || memory.stage[gpu.thread()] != token_stage::awaiting) return false;
    const index_t i = begin + gpu.thread(), old = call.old_rep(i);
    const bool    covered = (call.memory.graph[i] >> (old - begin) & 1) != 0;
    return !covered || memory.match[old - begin].position >= 0 || call.memory.graph[old] != 0;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
