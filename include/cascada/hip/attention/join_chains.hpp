#pragma once
// Tokens that leave a growing sequence's near field join the chains that leaves are cut from (extend_leaves.hpp).

#include <cstdint>

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One wave for a token and a set of leaves. Chains are clusters, or, `ByKeys`, what find_grown_anchors says.
template <bool ByKeys>
struct join_chains {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_clusters clusters;
  grown_tokens   of;
  grown_leaves   leaves;
  index_t        room;
  index_t        most;         // tokens that may join
  index_t        sinks, leaf;  // tokens of a leaf at most

  index_t grid() const { return most * leaves.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (of.state->valid < 0) return;
    const index_t from = gpu.uniform(of.state->from), token = from + gpu.block() / leaves.sets;
    if (token >= gpu.uniform(of.state->to)) return;
    const index_t        set    = gpu.block() % leaves.sets;
    const grown_leaves   links  = leaves.of(set, room);
    const index_t* const chains = ByKeys ? links.chain : clusters.of_head(set);
    const index_t        own    = gpu.uniform(chains[token]);
    const index_t        least  = own < sinks ? sinks : own;  // no member lies before
    index_t              joined = 0, last = -1;               // with this one and before it; the last of them
    for (index_t base = least < from ? from : least; base < token; base += gfx942::wave) {
      const index_t       other = base + gpu.lane();
      const std::uint64_t votes = gpu.ballot(other < token && chains[other] == own);
      joined += voters(votes);
      if (votes != 0) last = base + 63 - __builtin_clzll(votes);
    }
    if (gpu.lane() != 0) return;
    const index_t tail = own < from ? links.tail[own] : -1;
    const bool    old  = tail >= least;
    if constexpr (!ByKeys) links.chain[token] = own;
    links.size[token]   = ((old ? links.size[tail] : 0) + joined) % leaf + 1;
    links.before[token] = last = last < 0 && old ? tail : last;
    if (last >= 0) links.next[last] = token;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
