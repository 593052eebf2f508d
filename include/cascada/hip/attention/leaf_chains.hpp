#pragma once
// Chains by keys on the device: within a cluster, which tokens have keys that one leaf may stand for.
//
// As cpu/attention/leaf_chains.hpp says, token for token: each key joins the chain whose anchor, the chain's first key,
// covers it and is nearest; one that no anchor covers begins a chain and becomes one. Sums of the matrix units tell
// which keys may cover which, with the margin of base/margin.hpp; verdicts near the threshold, and which anchor is
// nearest, are the canonical product's.
//
//   begin_chains  norms of all keys
//   find_anchors  of the keys that no anchor covers, the first ones in order: which of them are anchors
//   meet_anchors  later keys meet those
//   order_chains  (chain_leaves.hpp) members chain by chain, which leaves are cut from
//
// What is sequential are anchors, not tokens. A key that no earlier anchor covers can be told to be one from the keys
// before it that none covers either, so a batch of them is settled at a time, wherever in the cluster they lie; all
// later keys meet the new anchors side by side. Clusters are taken together that begin in the same `chain_batch` places
// of the clusters' members: a range. Each round of the two launches settles a whole batch of every range, or all that
// is left of it. So T / chain_batch rounds are enough, whatever the data, and are known from T alone. Those that find
// nothing left read a few words a key.
//
// Cost, of n keys and a anchors in a cluster: n a d products of the matrix units, on all compute units, but for batch a
// d by one; and d products in order for each key and anchor that covers it. A block walks over a batch in a few
// instructions an anchor and a barrier a wave. KV heads and clusters go side by side.

#include <cstdint>

#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/attention/token_rows.hpp"
#include "cascada/hip/base/canonical.hpp"
#include "cascada/hip/base/covering_row.hpp"
#include "cascada/hip/base/margin.hpp"
#include "cascada/verdict.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Keys that are settled at a time: a block has a thread for each.
inline constexpr index_t chain_batch = 512;

/// The first key of a chain, that others may join.
struct chain_anchor {
  index_t place, token;  // among the clusters' members; there
  float   norm;

  CASCADA_HOST_DEVICE CASCADA_INLINE friend constexpr bool operator<(const chain_anchor& key, index_t other) {
    return key.place < other;
  }
};

/// How far a range of clusters is.
struct chain_round {
  index_t next;         // no key before this place waits to be settled
  index_t count, from;  // of anchors that are new; keys from this place on have not met them
};

/// Chains of T keys in each KV head; by place, unless it says otherwise.
struct chain_memory {
  index_t*      begins;   // [sets, T]: where the cluster begins
  index_t*      ends;     // [sets, T]: and ends
  float*        norms;    // [kv_heads, T]; 0: a chain of its own
  covering_row* nearest;  // [kv_heads, T]: anchors found so far; of a key that begins a chain, its own place
  chain_anchor* anchors;  // [kv_heads, T]: from the first place of each range on, those that are new
  chain_round*  rounds;   // [kv_heads, ranges]
  index_t*      sizes;    // [kv_heads, T]: members of the chain that begins here
  index_t*      offsets;  // [kv_heads, T + 1]: where its members begin
  index_t*      members;  // [kv_heads, T]: tokens, chain by chain

  index_t sets = 1;  // of clusters: those of all KV heads, or each KV head's own

  /// The arrays of one KV head.
  CASCADA_DEVICE CASCADA_INLINE chain_memory of(index_t head, index_t tokens) const {
    const std::int64_t from = std::int64_t{head} * tokens, of_cluster = std::int64_t{set_of_head(sets, head)} * tokens;
    return {begins + of_cluster, ends + of_cluster,     norms + from,
            nearest + from,      anchors + from,        rounds + head * ranges(tokens),
            sizes + from,        offsets + from + head, members + from};
  }

  /// Clusters that are taken together: those that begin in the same places.
  CASCADA_HOST_DEVICE CASCADA_INLINE static constexpr index_t ranges(index_t tokens) {
    return (tokens - 1) / chain_batch + 1;
  }
};

/// Keys of one KV head, compared with each other at leaf_threshold.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct compared_keys {
  token_rows<Scalar, Place> rows;
  index_t                   head;
  float                     threshold;

  CASCADA_DEVICE CASCADA_INLINE const Scalar* row(const chain_anchor& key) const { return rows.row(key.token, head); }

  CASCADA_DEVICE CASCADA_INLINE float product(const chain_anchor& a, const chain_anchor& b) const {
    return canonical_product(row(a), row(b), rows.dim);
  }
  CASCADA_DEVICE CASCADA_INLINE bool covers(const chain_anchor& key, const chain_anchor& other, float product) const {
    return detail::covers(product, threshold * key.norm, other.norm);
  }

  /// A key joins an anchor that covers it, if that is nearer than `best`.
  CASCADA_DEVICE CASCADA_INLINE void join(const chain_anchor& key, const chain_anchor& anchor,
                                          covering_row& best) const {
    const covering_row found = {anchor.place, product(key, anchor), anchor.norm};
    if (covers(key, anchor, found.product) && found.nearer_than(best)) best = found;
  }

  /// By a wave, which has keys as judge() says: they join the nearest of 32 anchors, of those `asked` for, where
  /// `other` is anchor lane % 32. Each half of the wave meets half of them; join_halves() then tells both.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void meet(Gpu& gpu, const chain_anchor& key, const chain_anchor* anchors,
                                          const chain_anchor& other, std::uint32_t asked, covering_row& best) const {
    const auto seen = judge(gpu, key, other, [&](index_t j) { return gpu.shuffle(other.norm, j); });
    for (std::uint32_t left = seen.possible & asked; left != 0; left &= left - 1)
      join(key, anchors[__builtin_ctz(left)], best);
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void join_halves(Gpu& gpu, covering_row& best) {
    const covering_row other = {
        static_cast<index_t>(gpu.shuffle(static_cast<std::uint32_t>(best.place), gpu.lane() ^ 32)),
        gpu.shuffle(best.product, gpu.lane() ^ 32), gpu.shuffle(best.norm, gpu.lane() ^ 32)};
    if (other.nearer_than(best)) best = other;
  }

  /// By a wave: lane l has key l % 32 of 32 that may be covered, and of 32 others, whose norms are norm_of(number).
  /// What it learns is about half of these: those of row_32.
  template <class Gpu, class Norm>
  CASCADA_DEVICE CASCADA_INLINE row_evidence judge(Gpu& gpu, const chain_anchor& key, const chain_anchor& other,
                                                   const Norm& norm_of) const {
    const sums_16 sums = multiply(gpu, row(other), row(key));
    return judge_sums(gpu, sum_margin(threshold, key.norm, rows.dim), sums, norm_of,
                      [](index_t, bool, float, float) {});
  }

 private:
  /// Sums of 32 rows and 32 columns.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 multiply(Gpu& gpu, const Scalar* row, const Scalar* column) const {
    constexpr index_t steps = 4;
    sums_16           sums  = {};
    for (index_t first = 0; first < rows.dim; first += 16 * steps) {
      vector8 a[steps], b[steps];
#pragma GCC unroll 4
      for (index_t s = 0; s < steps; ++s) {
        const index_t k      = first + 16 * s + gpu.lane() / 32 * 8;
        const bool    within = k < rows.dim;  // beyond, any elements, times zero
        a[s] = load_8(row + (within ? k : 0)), b[s] = load_8(column + (within ? k : 0));
        if (!within) a[s] = vector8{};
      }
#pragma GCC unroll 4
      for (index_t s = 0; s < steps; ++s) {
        sums = gpu.template mfma_32x32x8<Scalar>(low(a[s]), low(b[s]), sums);
        sums = gpu.template mfma_32x32x8<Scalar>(high(a[s]), high(b[s]), sums);
      }
    }
    return sums;
  }
};

/// Norms, and where clusters lie. Sinks and keys without a norm have chains of their own.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct begin_chains {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_sets            layer;
  cluster_memory            clusters;
  chain_memory              chains;
  token_rows<Scalar, Place> keys;
  index_t                   sinks;

  index_t grid() const { return ((keys.tokens - 1) / threads + 1) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % keys.heads, place = gpu.block() / keys.heads * threads + gpu.thread();
    const index_t count = *layer.of_head(head).count;
    if (count < 0 || place >= keys.tokens) return;
    const chain_memory   own   = chains.of(head, keys.tokens);
    const cluster_memory of    = clusters.of_head(head, keys.tokens);
    const index_t        next  = detail::first_from(of.offsets, 0, count, place + 1);  // cluster
    const index_t        begin = of.offsets[next - 1], end = of.offsets[next];
    const index_t        token = of.members[place];
    const Scalar* const  key   = keys.row(token, head);
    const float          norm  = detail::norm_or(canonical_product(key, key, keys.dim), 0);
    own.norms[place]           = token < sinks ? 0 : norm;
    own.nearest[place]         = {.place = own.norms[place] > 0 ? -1 : place};
    own.sizes[place]           = 0;
    if (head == 0 || chains.sets > 1) own.begins[place] = begin, own.ends[place] = end;
    if (place % chain_batch == 0) own.rounds[place / chain_batch] = {begin == place ? place : end, 0, 0};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
