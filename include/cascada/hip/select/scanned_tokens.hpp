#pragma once
// The 32 tokens of a block on their way: they are checked against what stands for those that they inherit, and meet
// representatives.

#include "cascada/hip/select/inherit.hpp"
#include "cascada/hip/select/scan.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <assignment Assign, class Call>
struct scanned_tokens {
  const Call& call;
  index_t     begin;

  /// What is known of them.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void load(Gpu& gpu, scan_shared& lds) const {
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

  /// Each wave checks every fourth token that awaits one before `resolved`: it settles, or searches.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void check_inherited(Gpu& gpu, scan_shared& lds, index_t resolved,
                                                     index_t& pairs) const {
    if (!call.before.rep) return;
    const index_t local = gpu.wave() + gram_tile::waves * gpu.lane(), i = begin + local;
    const bool    waits     = local < scan_tokens && i < call.tokens() && lds.stage[local] == token_stage::awaiting;
    const index_t old       = waits ? call.old_rep(i) : 0;
    const bool    asks      = waits && old < resolved;
    const index_t candidate = asks ? call.now.rep[old] : 0;
    const bool    covered   = own_candidate_covers(gpu, call, asks, i, candidate, pairs);
    if (covered) call.now.rep[i] = candidate;
    if (asks) lds.stage[local] = covered ? token_stage::settled : token_stage::searching;
    gpu.barrier();
  }

  /// Those that look further meet representatives [first, last).
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void scan(Gpu& gpu, scan_shared& lds, index_t first, index_t last,
                                          index_t& pairs) const {
    token_scan<Assign, Call>{call}(gpu, lds, begin, searches(gpu, lds), first, last, pairs);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void store(Gpu& gpu, const scan_shared& lds) const {
    if (gpu.thread() < scan_tokens && begin + gpu.thread() < call.tokens())
      call.memory.progress[begin + gpu.thread()] = {lds.stage[gpu.thread()], lds.match[gpu.thread()].place,
                                                    lds.match[gpu.thread()].product};
  }

 private:
  /// Whether this thread's token looks further: also one that awaits what it inherits, until it has a match.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool searches(Gpu& gpu, const scan_shared& lds) const {
    return gpu.thread() < scan_tokens && lds.stage[gpu.thread()] != token_stage::settled &&
           !ends_search<Assign>(lds.match[gpu.thread()]);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
