#pragma once
// Leaves by ascending first token.

#include <cstdint>

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// How many tokens from some place on begin leaves: before a thread's, and up to its block's last one. Each block of
/// `Threads` counts those of all tokens before its own.
template <index_t Threads>
struct leaf_places {
  struct shared {
    std::uint32_t        before[Threads / gfx942::wave];
    block_votes<Threads> own;
  };

  index_t own, end;

  template <class Gpu, class Begins>
  CASCADA_DEVICE CASCADA_INLINE static leaf_places of(Gpu& gpu, shared& lds, index_t from, index_t block_begin,
                                                      const Begins& begins) {
    std::uint32_t before = 0;
#pragma GCC unroll 8
    for (index_t t = from + gpu.thread(); t < block_begin; t += Threads) before += begins(t);
    before = sum_of_wave(gpu, before);
    lds.own.cast(gpu, begins(block_begin + gpu.thread()));
    if (gpu.lane() == 0) lds.before[gpu.wave()] = before;
    gpu.barrier();
    before = 0;
    for (const std::uint32_t of_wave : lds.before) before += of_wave;
    const auto earlier = static_cast<index_t>(before);
    return {earlier + lds.own.before(gpu), earlier + lds.own.all()};
  }
};

/// The leaves in the order of their first tokens.
struct list_leaves {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  using places = leaf_places<threads>;
  using shared = places::shared;

  selection_sets layer;
  leaf_memory    leaves;
  index_t        tokens;

  index_t grid() const { return (tokens + threads - 1) / threads * leaves.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t           set   = gpu.block() % leaves.sets;
    const index_t           begin = gpu.block() / leaves.sets * threads, token = begin + gpu.thread();
    const leaf_range* const formed = leaves.formed + std::int64_t{set} * tokens;
    const bool              exist  = !layer.of_head(set).failed();
    const auto              leads  = [&](index_t t) { return exist && t < tokens && begins(formed[t]); };
    const auto              place  = places::of(gpu, gpu.template shared<shared>(), 0, begin, leads);
    if (leads(token)) leaves.ranges[std::int64_t{set} * tokens + place.own] = formed[token];
    if (begin + threads >= tokens && gpu.thread() == 0) leaves.count[set] = place.end;
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE static bool begins(const leaf_range& range) { return range.begin < range.end; }
};

/// The same of a sequence that grows, of which some tokens join: leaves that begin are numbered behind those there are,
/// and chains end with their last members.
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

}  // namespace cascada::inline CASCADA_ABI::hip::attention
