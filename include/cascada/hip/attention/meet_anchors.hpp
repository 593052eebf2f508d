#pragma once
// Chains by keys: keys meet the new anchors of their clusters (leaf_chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/compared_keys.hpp"
#include "cascada/hip/attention/leaf_chains.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One wave for 32 places and a KV head, which meets 32 anchors at a time: the matrix units tell which may cover a key,
/// and of these the canonical product is asked. Each half of the wave has half of the anchors.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct meet_anchors {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 2;

  selection_sets            layer;
  cluster_memory            clusters;
  chain_memory              chains;
  token_rows<Scalar, Place> keys;
  float                     threshold;

  static constexpr index_t places = 32;

  index_t grid() const { return ((keys.tokens - 1) / places + 1) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % keys.heads, base = gpu.block() / keys.heads * places;
    if (layer.of_head(head).failed()) return;
    const chain_memory own  = chains.of(head, keys.tokens);
    const index_t      mine = base + gpu.lane() % places, place = mine < keys.tokens ? mine : keys.tokens - 1;
    const chain_anchor key   = {place, clusters.of_head(head, keys.tokens).members[place], own.norms[place]};
    const index_t      range = own.begins[place] / chain_batch;
    const chain_round  round = own.rounds[range];
    const bool         meets = place == mine && key.norm > 0 && round.count > 0 && round.from <= place;
    std::uint64_t      todo  = gpu.ballot(meets);
    if (todo == 0) return;
    covering_row best = own.nearest[place];
    while (todo != 0) {  // ranges: two at most
      const index_t which = gpu.read_lane(range, static_cast<index_t>(__builtin_ctzll(todo)));
      const bool    now   = meets && range == which;
      todo &= ~gpu.ballot(now);
      meet(gpu, own, {keys, head, threshold}, which, now, key, best);
    }
    compared_keys<Scalar, Place>::join_halves(gpu, best);
    if (meets && gpu.lane() < 32) own.nearest[place] = best;
  }

 private:
  /// The new anchors of a range, for keys of it that take part `now`.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet(Gpu& gpu, const chain_memory& own, const compared_keys<Scalar, Place>& with,
                                          index_t range, bool now, const chain_anchor& key, covering_row& best) const {
    const chain_anchor* const from  = own.anchors + std::int64_t{range} * chain_batch;
    const index_t             count = gpu.uniform(own.rounds[range].count);
    // Those of its cluster that come before a key.
    const index_t begin = detail::first_from(from, 0, count, own.begins[key.place]),
                  end   = now ? detail::first_from(from, 0, count, key.place) : begin;
    for (index_t first = 0; first < count; first += 32) {
      const std::uint32_t asked = bits_below(end - first) & ~bits_below(begin - first);
      if (gpu.ballot(asked != 0) == 0) continue;
      const index_t      row   = first + gpu.lane() % 32;
      const chain_anchor other = from[row < count ? row : first];
      with.meet(gpu, key, from + first, other, asked, best);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
