#pragma once
// Chains by keys: keys meet the new anchors of their clusters (chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/chains.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One wave for 64 places and a KV head: a lane has a key, the wave a few anchors at a time.
template <matrix_scalar Scalar>
struct meet_anchors {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 2;

  selection_layer          layer;
  cluster_memory           clusters;
  chain_memory             memory;
  heads_view<const Scalar> keys;
  float                    threshold;

  index_t grid() const { return ((keys.tokens - 1) / threads + 1) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*layer.count < 0) return;
    const index_t      head = gpu.block() % keys.heads, base = gpu.block() / keys.heads * threads;
    const chain_memory own   = memory.of(head, keys.tokens);
    const bool         there = base + gpu.lane() < keys.tokens;
    const index_t      place = there ? base + gpu.lane() : keys.tokens - 1;
    const index_t      begin = own.begins[place], token = clusters.members[place];
    const float        norm  = own.norms[place];
    const index_t      range = begin / chain_batch;
    const chain_round  round = own.rounds[range];
    const bool         meets = there && norm > 0 && round.count > 0 && round.from <= place;
    if (gpu.ballot(meets) == 0) return;
    nearest_anchor best = own.nearest[place];
    for (std::uint64_t todo = gpu.ballot(meets); todo != 0;) {  // ranges: two at most
      const index_t which = gpu.read_lane(range, static_cast<index_t>(__builtin_ctzll(todo)));
      const bool    mine  = meets && range == which;
      todo &= ~gpu.ballot(mine);
      const index_t             count = gpu.uniform(own.rounds[which].count);
      const chain_anchor* const from  = own.anchors + std::int64_t{which} * chain_batch;
      for (index_t a = 0; a < count && from[a].place < base + threads; a += few_anchors<Scalar>::count) {
        few_anchors<Scalar> few;
        std::uint32_t       asked = 0;
#pragma GCC unroll 4
        for (index_t l = 0; l < few.count; ++l) {
          few.of[l] = from[a + l < count ? a + l : a];
          if (mine && a + l < count && few.of[l].place >= begin && few.of[l].place < place) asked |= 1u << l;
        }
        few.choose(few.covering(gpu, keys, head, token, threshold * norm, asked), best);
      }
    }
    if (meets) own.nearest[place] = best;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
