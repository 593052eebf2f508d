#pragma once
// Chains by keys on the device: within a cluster, which tokens have keys that one leaf may stand for.
//
// As cpu/attention/leaf_chains.hpp says, token for token: each key joins the chain whose anchor, the chain's first key,
// covers it and is nearest; one that no anchor covers begins a chain and becomes one. Every product is the canonical
// one, and so is every verdict.
//
//   begin_chains  norms of all keys
//   find_anchors  of the keys that no anchor covers, the first ones in order: which of them are anchors
//   meet_anchors  later keys meet those
//   order_chains  (chain_leaves.hpp) members chain by chain, which leaves are cut from
//
// What is sequential are anchors, not tokens. A key that no earlier anchor covers can be told to be one from the keys
// alike before it, so a batch of them is settled at a time, wherever in the cluster they lie; all other keys meet the
// new anchors side by side. Clusters are taken together that begin in the same `chain_batch` places of the clusters'
// members. Each round of the two launches settles a whole batch of every such range, or all that is left of it: T /
// chain_batch rounds are enough, whatever the data, and are known from T alone. Those that find nothing left read a few
// words a block.
//
// Cost, of n keys and a anchors in a cluster: n a d products of floats at most, on all compute units, but for a (batch
// a d / 2) by one, in a steps of a barrier or two and batch d products; KV heads and clusters side by side. 40 bytes
// a token and KV head.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/base/canonical.hpp"
#include "cascada/verdict.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Keys that are settled at a time: a block has a thread for each.
inline constexpr index_t chain_batch = 256;

/// The first key of a chain, that others may join.
struct chain_anchor {
  index_t place, token;  // among the clusters' members; there
  float   norm;
};

/// What a key has found so far.
struct nearest_anchor {
  index_t place   = -1;  // of the anchor; its own: it begins a chain
  float   product = 0, norm = 0;

  CASCADA_DEVICE CASCADA_INLINE bool none() const { return place < 0; }

  /// Anchors come in order: of equally near ones, the older stays.
  CASCADA_DEVICE CASCADA_INLINE void meet(const chain_anchor& other, float with) {
    if (none() || detail::nearer(with, other.norm, product, norm))
      place = other.place, product = with, norm = other.norm;
  }
};

/// How far a range of clusters is.
struct chain_round {
  index_t next;         // no key before this place waits to be settled
  index_t count, from;  // of anchors that are new; keys from this place on have not met them
};

/// Chains of T keys in each KV head; by place, unless it says otherwise.
struct chain_memory {
  index_t*        begins;   // [T]: where the cluster begins
  index_t*        ends;     // [T]: and ends
  float*          norms;    // [kv_heads, T]; 0: a chain of its own
  nearest_anchor* nearest;  // [kv_heads, T]
  chain_anchor*   anchors;  // [kv_heads, T]: from the first place of each range on, those that are new
  chain_round*    rounds;   // [kv_heads, ranges]
  index_t*        sizes;    // [kv_heads, T]: members of the chain that begins here
  index_t*        offsets;  // [kv_heads, T + 1]: where its members begin
  index_t*        members;  // [kv_heads, T]: tokens, chain by chain

  /// The arrays of one KV head.
  CASCADA_DEVICE CASCADA_INLINE chain_memory of(index_t head, index_t tokens) const {
    const std::int64_t from = std::int64_t{head} * tokens;
    return {begins,         ends,
            norms + from,   nearest + from,
            anchors + from, rounds + head * ranges(tokens),
            sizes + from,   offsets + from + head,
            members + from};
  }

  /// Clusters that are taken together: those that begin in the same places.
  CASCADA_HOST_DEVICE CASCADA_INLINE static constexpr index_t ranges(index_t tokens) {
    return (tokens - 1) / chain_batch + 1;
  }
};

/// A few anchors, or keys that may become some, that a key meets at once: by as many chains of sums.
template <matrix_scalar Scalar>
struct few_anchors {
  static constexpr index_t count = 4;

  chain_anchor of[count];
  float        product[count];

  /// Those that cover the key of a token, as bits, of those `asked` for.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t covering(Gpu& gpu, const heads_view<const Scalar>& keys, index_t head,
                                                       index_t token, float scaled_norm, std::uint32_t asked) {
    if (asked == 0) return 0;
    multiply(gpu, keys, head, keys.row(token, head));
    std::uint32_t covering = 0;
#pragma GCC unroll 4
    for (index_t l = 0; l < count; ++l)
      covering |= static_cast<std::uint32_t>(detail::covers(product[l], scaled_norm, of[l].norm)) << l;
    return covering & asked;
  }

  /// The nearest of `best` and those that cover the key.
  CASCADA_DEVICE CASCADA_INLINE void choose(std::uint32_t covering, nearest_anchor& best) const {
#pragma GCC unroll 4
    for (index_t l = 0; l < count; ++l)
      if ((covering >> l & 1) != 0) best.meet(of[l], product[l]);
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void multiply(Gpu& gpu, const heads_view<const Scalar>& keys, index_t head,
                                              const Scalar* own) {
    const Scalar* row[count];
    vector8       next, next_of[count];
    const auto    fetch = [&](index_t k) {
      next = load_8(own + k);
#pragma GCC unroll 4
      for (index_t l = 0; l < count; ++l) next_of[l] = load_8(row[l] + k);
    };
#pragma GCC unroll 4
    for (index_t l = 0; l < count; ++l) row[l] = keys.row(of[l].token, head), product[l] = 0;
    fetch(0);
#pragma GCC unroll 1
    for (index_t k = 0; k < keys.dim; k += 8) {
      const vector8 key = next;
      vector8       other[count];
#pragma GCC unroll 4
      for (index_t l = 0; l < count; ++l) other[l] = next_of[l];
      fetch(k + 8 < keys.dim ? k + 8 : k);
      gpu.schedule_barrier();
#pragma GCC unroll 8
      for (index_t e = 0; e < 8; ++e)
#pragma GCC unroll 4
        for (index_t l = 0; l < count; ++l)
          product[l] = __builtin_fmaf(to_float(Scalar{key[e]}), to_float(Scalar{other[l][e]}), product[l]);
    }
  }
};

/// Norms, and where clusters lie. Sinks and keys without a norm have chains of their own.
template <matrix_scalar Scalar>
struct begin_chains {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 1;

  selection_layer          layer;
  cluster_memory           clusters;
  chain_memory             memory;
  heads_view<const Scalar> keys;
  index_t                  sinks;

  index_t grid() const { return ((keys.tokens - 1) / threads + 1) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % keys.heads, place = gpu.block() / keys.heads * threads + gpu.thread();
    const index_t count = *layer.count;
    if (count < 0 || place >= keys.tokens) return;
    const chain_memory  own   = memory.of(head, keys.tokens);
    const index_t       next  = detail::first_from(clusters.offsets, 0, count, place + 1);  // cluster
    const index_t       begin = clusters.offsets[next - 1], end = clusters.offsets[next];
    const index_t       token = clusters.members[place];
    const Scalar* const key   = keys.row(token, head);
    const float         norm  = detail::norm_or(canonical_product(key, key, keys.dim), 0);
    own.norms[place]          = token < sinks ? 0 : norm;
    own.nearest[place]        = {own.norms[place] > 0 ? -1 : place};
    own.sizes[place]          = 0;
    if (head == 0) own.begins[place] = begin, own.ends[place] = end;
    if (place % chain_batch == 0) own.rounds[place / chain_batch] = {begin == place ? place : end, 0, 0};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
