#pragma once
// Chains by keys: of a range's keys that no anchor covers, which are anchors (chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/chains.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One block for each range and KV head. A thread has a key of the batch. The first keys that wait, up to a few, are
/// met by all later ones; in order, each of them becomes an anchor that none before it covers.
template <matrix_scalar Scalar>
struct find_anchors {
  static constexpr index_t threads = chain_batch;
  static constexpr index_t waves   = 2;

  static constexpr index_t block_waves = threads / gfx942::wave;

  struct shared {
    std::uint64_t votes[block_waves], anchors[block_waves];
    std::uint32_t covering[few_anchors<Scalar>::count];  // of the few, those that cover each
    chain_anchor  batch[threads];                        // that may become anchors
  };

  selection_layer          layer;
  cluster_memory           clusters;
  chain_memory             memory;
  heads_view<const Scalar> keys;
  float                    threshold;
  bool                     first;  // round

  index_t grid() const { return chain_memory::ranges(keys.tokens) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*layer.count < 0) return;
    auto&              batch = gpu.template shared<shared>();
    const index_t      head = gpu.block() % keys.heads, range = gpu.block() / keys.heads;
    const chain_memory own  = memory.of(head, keys.tokens);
    const index_t      last = (range + 1) * chain_batch;
    const index_t      end  = gpu.uniform(own.ends[(last < keys.tokens ? last : keys.tokens) - 1]);
    index_t            next = gpu.uniform(own.rounds[range].next);
    if (next >= end) {
      if (gpu.thread() == 0) own.rounds[range].count = 0;
      return;
    }
    const index_t count = gather(gpu, batch, own, next, end);
    settle(gpu, batch, own, head, count);
    const index_t found = list(gpu, batch, own, range, count);
    if (gpu.thread() == 0) own.rounds[range] = {next, found, first ? next : batch.batch[0].place};
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE static index_t popcount(std::uint64_t votes) { return __builtin_popcountll(votes); }

  /// The first keys of places [next, end) that wait. `next` becomes the place after them. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t gather(Gpu& gpu, shared& batch, const chain_memory& own, index_t& next,
                                               index_t end) const {
    index_t count = 0;
    for (; next < end && count < threads; next += threads) {
      const index_t       place = next + gpu.thread();
      const bool          waits = place < end && own.nearest[place].none();
      const std::uint64_t votes = gpu.ballot(waits);
      if (gpu.lane() == 0) batch.votes[gpu.wave()] = votes;
      gpu.barrier();
      index_t slot = count + voters_below(gpu, votes);
      for (index_t w = 0; w < block_waves; ++w) {
        slot += w < gpu.wave() ? popcount(batch.votes[w]) : 0;
        count += popcount(batch.votes[w]);
      }
      if (waits && slot < threads) batch.batch[slot] = {place, clusters.members[place], own.norms[place]};
      gpu.barrier();
    }
    if (count > threads) next = batch.batch[threads - 1].place + 1;
    if (next > end) next = end;
    return count < threads ? count : threads;
  }

  /// The first few that wait: numbers in the batch, `threads` where there are no more.
  struct first_few {
    index_t slot[few_anchors<Scalar>::count];

    CASCADA_DEVICE CASCADA_INLINE first_few(const std::uint64_t (&votes)[block_waves]) {
      std::uint64_t left[block_waves];
#pragma GCC unroll 4
      for (index_t w = 0; w < block_waves; ++w) left[w] = votes[w];
#pragma GCC unroll 4
      for (index_t l = 0; l < few_anchors<Scalar>::count; ++l) {
        slot[l] = threads;
#pragma GCC unroll 4
        for (index_t w = block_waves - 1; w >= 0; --w)
          if (left[w] != 0) slot[l] = gfx942::wave * w + __builtin_ctzll(left[w]);
#pragma GCC unroll 4
        for (index_t w = 0; w < block_waves; ++w)
          if (slot[l] / gfx942::wave == w) left[w] &= left[w] - 1;
      }
    }
  };

  /// Tells anchors from keys that join them. Those begin their own chains.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void settle(Gpu& gpu, shared& batch, const chain_memory& own, index_t head,
                                            index_t count) const {
    const bool         exists = gpu.thread() < count;
    const chain_anchor key    = batch.batch[exists ? gpu.thread() : 0];
    const index_t      begin  = own.begins[key.place];
    const float        scaled = threshold * key.norm;
    nearest_anchor     best;
    for (bool waits = exists;;) {
      const std::uint64_t votes = gpu.ballot(waits);
      if (gpu.lane() == 0) batch.votes[gpu.wave()] = votes;
      gpu.barrier();
      const first_few now(batch.votes);
      if (now.slot[0] == threads) break;
      few_anchors<Scalar> few;
      std::uint32_t       asked = 0, anchors = 0;
#pragma GCC unroll 4
      for (index_t l = 0; l < few.count; ++l) {
        few.of[l] = batch.batch[now.slot[l] < threads ? now.slot[l] : now.slot[0]];
        if (exists && now.slot[l] < gpu.thread() && few.of[l].place >= begin) asked |= 1u << l;
      }
      const std::uint32_t covering = few.covering(gpu, keys, head, key.token, scaled, asked);
#pragma GCC unroll 4
      for (index_t l = 0; l < few.count; ++l)
        if (now.slot[l] == gpu.thread()) batch.covering[l] = covering;
      gpu.barrier();
#pragma GCC unroll 4
      for (index_t l = 0; l < few.count; ++l)
        if (now.slot[l] < threads && (batch.covering[l] & anchors) == 0) {
          anchors |= 1u << l;
          if (now.slot[l] == gpu.thread()) best = {key.place}, waits = false;
        }
      few.choose(covering & anchors, best);
      if ((covering & anchors) != 0) waits = false;
    }
    if (exists) own.nearest[key.place] = best;
  }

  /// Lists the new anchors, in order. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t list(Gpu& gpu, shared& batch, const chain_memory& own, index_t range,
                                             index_t count) const {
    const bool          exists = gpu.thread() < count;
    const chain_anchor  key    = batch.batch[exists ? gpu.thread() : 0];
    const bool          begins = exists && own.nearest[key.place].place == key.place;
    const std::uint64_t votes  = gpu.ballot(begins);
    if (gpu.lane() == 0) batch.anchors[gpu.wave()] = votes;
    gpu.barrier();
    index_t slot = voters_below(gpu, votes), all = 0;
    for (index_t w = 0; w < block_waves; ++w) {
      slot += w < gpu.wave() ? popcount(batch.anchors[w]) : 0;
      all += popcount(batch.anchors[w]);
    }
    if (begins) own.anchors[std::int64_t{range} * chain_batch + slot] = key;
    return all;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
