#pragma once
// Chains by keys of a sequence that grows: tokens that leave the near field join those of their clusters, in each KV
// head, as leaf_chains.hpp says.
//
//   meet_grown_anchors  of a batch of tokens, which older anchor covers each and is nearest
//   find_grown_anchors  of those that none covers, which are anchors; then all meet these
//
// Anchors are kept, in token order, and no other key: what a token joins depends on those before it alone. Batches of
// `chain_batch` tokens go one after the other; where none is left, launches find nothing to do.
//
// Cost, of n tokens and a anchors: n a d products of the matrix units at most, of tiles that have a cluster in common.

#include <cstdint>

#include "cascada/hip/attention/anchor_batch.hpp"
#include "cascada/hip/attention/compared_keys.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaf_chains.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A batch of a call's tokens that join.
struct joining_batch {
  grown_tokens of;
  index_t      number;

  CASCADA_DEVICE CASCADA_INLINE index_t begin() const { return of.state->from + number * chain_batch; }
  CASCADA_DEVICE CASCADA_INLINE index_t count() const {
    const index_t left = of.state->to - begin();
    return left < chain_batch ? left : chain_batch;
  }
};

/// One wave for 32 tokens and a KV head, which meets 32 anchors at a time.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct meet_grown_anchors {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 2;
  static constexpr index_t tokens         = 32;

  grown_clusters            clusters;
  joining_batch             batch;
  grown_chains              chains;
  token_rows<Scalar, Place> keys;  // of as many tokens as there is room for
  float                     threshold;

  index_t grid() const { return chain_batch / tokens * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (batch.of.state->valid < 0) return;
    const index_t head = gpu.block() % keys.heads, first = gpu.block() / keys.heads * tokens;
    const index_t all = gpu.uniform(batch.count()), begin = gpu.uniform(batch.begin());
    if (first >= all) return;
    const index_t                      own = first + gpu.lane() % tokens, token = begin + (own < all ? own : all - 1);
    const grown_chains                 of   = chains.of(head, keys.tokens);
    const index_t* const               rep  = clusters.of_head(head);
    const Scalar* const                row  = keys.row(token, head);
    const float                        norm = detail::norm_or(canonical_product(row, row, keys.dim), 0);
    const chain_anchor                 key  = {token, token, norm};
    const compared_keys<Scalar, Place> with = {keys, head, threshold};
    covering_row                       best;
    const index_t                      count = gpu.uniform(*of.count), cluster = rep[token];
#pragma GCC unroll 1
    for (index_t base = 0; base < count; base += 32) {
      const index_t       place = base + gpu.lane() % 32;
      const chain_anchor  other = of.anchors[place < count ? place : base];
      const std::uint32_t alike = same_cluster(gpu, rep[other.token], cluster) & bits_below(count - base);
      const std::uint32_t asked = norm > 0 ? alike : 0;
      if (gpu.ballot(asked != 0) != 0) with.meet(gpu, key, of.anchors + base, other, asked, best);
    }
    compared_keys<Scalar, Place>::join_halves(gpu, best);
    if (own < all && gpu.lane() < 32) of.nearest[own] = best, of.norms[own] = norm;
  }

 private:
  /// Those of 32 anchors, whose clusters the lanes have, that lie in a lane's cluster.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t same_cluster(Gpu& gpu, index_t of_anchor, index_t cluster) {
    std::uint32_t alike = 0;
#pragma GCC unroll 32
    for (index_t j = 0; j < 32; ++j) alike |= static_cast<std::uint32_t>(gpu.read_lane(of_anchor, j) == cluster) << j;
    return alike;
  }
};

/// One block for a KV head settles a batch (anchor_batch.hpp). Keys without a norm have chains of their own.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct find_grown_anchors {
  static constexpr index_t threads        = chain_batch;
  static constexpr index_t waves_per_simd = 2;

  using batch_of = anchor_batch<Scalar, Place>;
  struct shared : batch_of::shared {
    index_t cluster[threads];
  };

  grown_clusters            clusters;
  joining_batch             batch;
  grown_chains              chains;
  index_t*                  chain;  // [kv_heads, room]: the anchor, or the token itself
  token_rows<Scalar, Place> keys;
  float                     threshold;

  index_t grid() const { return keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (batch.of.state->valid < 0) return;
    const index_t head = gpu.block(), count = gpu.uniform(batch.count());
    if (count <= 0) return;
    auto&                              lds    = gpu.template shared<shared>();
    const bool                         exists = gpu.thread() < count;
    const index_t                      own    = exists ? gpu.thread() : 0;
    const index_t                      token  = batch.begin() + own;
    const grown_chains                 of     = chains.of(head, keys.tokens);
    const compared_keys<Scalar, Place> with   = {keys, head, threshold};
    const chain_anchor                 key    = {token, token, of.norms[own]};
    const index_t                      older  = gpu.uniform(*of.count);
    covering_row                       best   = of.nearest[own];
    if (exists) lds.batch[own] = key, lds.cluster[own] = clusters.of_head(head)[token];
    gpu.barrier();
    batch_of::compare(gpu, lds, with, count, [&](index_t i, const chain_anchor& later) {
      const index_t cluster = lds.cluster[i];
      return [=, &lds](index_t row) { return later.norm > 0 ? same_cluster(lds, row, count, cluster) : 0; };
    });
    const auto before = batch_of::covering(gpu, lds);
    batch_of::walk(gpu, lds, before, exists && key.norm > 0 && best.none());
    const auto found = batch_of::settle(gpu, lds, with, before, key, best);
    if (found.begins) of.anchors[older + found.before] = key;
    if (exists) chain[std::int64_t{head} * keys.tokens + token] = found.begins || best.none() ? token : best.place;
    if (gpu.thread() == 0) *of.count = older + found.all;
  }

 private:
  /// Of keys 32 row + [0, 32), below `count`, those of a cluster.
  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t same_cluster(const shared& lds, index_t row, index_t count,
                                                                  index_t cluster) {
    std::uint32_t alike = 0;
#pragma GCC unroll 8
    for (index_t j = 0; j < 32; ++j) alike |= static_cast<std::uint32_t>(lds.cluster[32 * row + j] == cluster) << j;
    return alike & bits_below(count - 32 * row);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
