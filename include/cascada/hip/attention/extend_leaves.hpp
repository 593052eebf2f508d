#pragma once
// The tokens that leave a growing sequence's near field join leaves, those of their chains.
//
//   join_chains      each finds those of its chain, by order its cluster, that join with it, and the last one before
//   list_new_leaves  leaves that begin are numbered; chains end with their last members
//   extend_means     rows of the tables, for each leaf that gets members
//
// Which tokens these are, the device knows; the host, how many at most. A leaf's sums begin again with its first
// member: it has `leaf` members at most, so a token costs O(leaf d), and no sums are kept.

#include <cstdint>

#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/list_leaves.hpp"
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

/// The leaves in the order of their first tokens.
struct list_new_leaves {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  using places = leaf_places<threads>;
  using shared = places::shared;

  grown_tokens of;
  grown_leaves leaves;
  index_t      room;
  index_t      most;  // tokens that may join

  index_t grid() const { return (most + threads - 1) / threads * leaves.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (of.state->valid < 0) return;
    const index_t from = gpu.uniform(of.state->from), to = gpu.uniform(of.state->to);
    const index_t begin = from + gpu.block() / leaves.sets * threads, token = begin + gpu.thread();
    if (begin >= to) return;
    const grown_leaves own    = leaves.of(gpu.block() % leaves.sets, room);
    const auto         begins = [&](index_t t) { return t < to && own.size[t] == 1; };
    const auto         place  = places::of(gpu, gpu.template shared<shared>(), from, begin, begins);
    const index_t      older  = *own.older;
    if (begins(token)) own.first[older + place.own] = token;
    if (token < to && own.next[token] == 0) own.tail[own.chain[token]] = token;
    if (begin + threads >= to && gpu.thread() == 0) *own.count = older + place.end;
  }
};

/// Rows of the tables. As in leaf_means, eight elements to a lane; keys have one half of the blocks, values the other.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct extend_means {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens              of;
  grown_leaves              leaves;
  token_rows<Scalar, Place> keys, values;  // of as many tokens as there is room for
  leaf_table<Scalar>        mean_keys, mean_values;
  index_t                   most;  // tokens that may join

  index_t grid() const { return 2 * half(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (of.state->valid < 0) return;
    if (gpu.block() < half())
      extend(gpu, gpu.block(), keys, mean_keys);
    else
      extend(gpu, gpu.block() - half(), values, mean_values);
  }

 private:
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t half() const {
    const std::int64_t lanes = std::int64_t{most} * keys.heads * (keys.dim / 8);
    return static_cast<index_t>((lanes + threads - 1) / threads);
  }

  /// The first of a leaf's new tokens walks over all of its members.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void extend(Gpu& gpu, index_t block, const token_rows<Scalar, Place>& rows,
                                            const leaf_table<Scalar>& table) const {
    const index_t       from = gpu.uniform(of.state->from), to = gpu.uniform(of.state->to);
    const index_t       lanes = rows.dim / 8, item = block * (threads / lanes) + gpu.lane() / lanes;
    const index_t       head = item % rows.heads, token = from + item / rows.heads;
    const grown_leaves  own = leaves.of(leaves.set_of(head), rows.tokens);
    member_sums<Scalar> all;
    index_t             member = -1, count = 0;
    if (token < to && (own.size[token] == 1 || own.before[token] < from)) {
      member = token;
      for (index_t left = own.size[token]; left > 1; --left) member = own.before[member];
    }
    while (gpu.ballot(member >= 0) != 0) {
      const bool         exists = member >= 0;
      const std::int64_t row    = std::int64_t{head} * rows.tokens + (exists ? member : 0);
      ++count;
      if (exists) all.add(load_8(rows.row(member, head) + 8 * (gpu.lane() % lanes)), count == 1);
      table.write(gpu, all, static_cast<float>(count), row, exists && member >= from);
      if (exists) member = own.follower(member, to);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
