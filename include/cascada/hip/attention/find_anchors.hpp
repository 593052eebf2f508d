#pragma once
// Chains by keys: of a range's keys that no anchor covers, which are anchors (chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/chains.hpp"
#include "cascada/hip/base/margin.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One block for each range and KV head; a thread has a key of the batch. The matrix units tell of most pairs whether
/// one key covers the other, and the canonical product of the rest. Waves then walk over their keys in order, with bits
/// alone: one that no anchor before it covers is an anchor. Last, keys look for the nearest of those that cover them.
template <matrix_scalar Scalar>
struct find_anchors {
  static constexpr index_t threads = chain_batch;
  static constexpr index_t waves   = 2;

  static constexpr index_t block_waves = threads / gfx942::wave;

  static constexpr index_t tiles = threads / 32;  // of keys

  struct shared {
    std::uint64_t votes[block_waves], anchors[block_waves];
    chain_anchor  batch[threads];
    std::uint32_t covering[tiles][threads];  // of each key, 32 by 32: those before it that cover it
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
    compare(gpu, batch, own, head, count);
    std::uint64_t before[block_waves];
#pragma GCC unroll 4
    for (index_t w = 0; w < block_waves; ++w)
      before[w] = covering(gpu, batch, 2 * w) | covering(gpu, batch, 2 * w + 1) << 32;
    walk(gpu, batch, before, count);
    const index_t found = settle(gpu, batch, own, head, range, before, count);
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

  /// Bits below `count`, of 32.
  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t bits_below(index_t count) {
    return count <= 0 ? 0 : ~0u >> (count < 32 ? 32 - count : 0);
  }

  /// Which keys cover which later ones of their cluster. A wave has two columns of the triangle of 32 x 32 tiles, so
  /// that all have as many tiles.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void compare(Gpu& gpu, shared& batch, const chain_memory& own, index_t head,
                                             index_t count) const {
#pragma GCC unroll 1
    for (index_t n = 0; n < 2; ++n) {
      const index_t column = n == 0 ? gpu.wave() : tiles - 1 - gpu.wave();
      const index_t rows   = 32 * column < count ? column + 1 : 0;  // of tiles
      const index_t i      = 32 * column + gpu.lane() % 32;
      const bool    exists = i < count;
      const auto    key    = batch.batch[exists ? i : 0];
      const index_t begin  = exists ? first_of_cluster(batch, own.begins[key.place], i) : i;
#pragma GCC unroll 1
      for (index_t row = 0; row < rows; ++row) {
        const std::uint32_t asked = bits_below(i - 32 * row) & ~bits_below(begin - 32 * row);
        const std::uint32_t bits  = compare_tile(gpu, batch, head, key, row, count, exists ? asked : 0);
        if (gpu.lane() < 32) batch.covering[row][i] = bits;
      }
    }
    gpu.barrier();
  }

  /// The first key of a batch that lies at `begin` or after; `end` is one.
  CASCADA_DEVICE CASCADA_INLINE static index_t first_of_cluster(const shared& batch, index_t begin, index_t end) {
    index_t first = 0;
    while (first < end) {
      const index_t middle = (first + end) / 2;
      if (batch.batch[middle].place < begin)
        first = middle + 1;
      else
        end = middle;
    }
    return first;
  }

  /// Those of 32 keys that cover this lane's, as bits, of those `asked` for.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t compare_tile(Gpu& gpu, const shared& batch, index_t head,
                                                           const chain_anchor& key, index_t row, index_t count,
                                                           std::uint32_t asked) const {
    const index_t       j      = 32 * row + gpu.lane() % 32;
    const Scalar* const own    = keys.row(key.token, head);
    const sums_16       sums   = multiply(gpu, keys.row(batch.batch[j < count ? j : 0].token, head), own);
    const sum_margin    margin = {threshold, key.norm, keys.dim};
    std::uint32_t       sure = 0, possible = 0;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const gram_evidence seen = margin.judge(sums[v], batch.batch[32 * row + row_32(gpu.lane(), v)].norm);
      sure |= static_cast<std::uint32_t>(seen.covered) << v;
      possible |= static_cast<std::uint32_t>(!seen.apart) << v;
    }
    std::uint32_t bits = bits_of_rows(gpu, sure) & asked;
    for (std::uint32_t left = bits_of_rows(gpu, possible) & asked & ~bits; left != 0; left &= left - 1) {
      const index_t      place   = __builtin_ctz(left);
      const chain_anchor other   = batch.batch[32 * row + place];
      const float        product = canonical_product(own, keys.row(other.token, head), keys.dim);
      bits |= static_cast<std::uint32_t>(detail::covers(product, threshold * key.norm, other.norm)) << place;
    }
    return bits | gpu.shuffle(bits, gpu.lane() ^ 32);
  }

  /// Sums of 32 rows and 32 columns: a lane has one of each.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 multiply(Gpu& gpu, const Scalar* row, const Scalar* column) const {
    sums_16 sums = {};
#pragma GCC unroll 4
    for (index_t first_of_two = 0; first_of_two < keys.dim; first_of_two += 16) {
      const index_t k      = first_of_two + gpu.lane() / 32 * 8;
      const bool    within = k < keys.dim;  // of the last 16, the upper half may be beyond
      const vector8 a = load_8(row + (within ? k : 0)), b = load_8(column + (within ? k : 0)), none = {};
      sums = gpu.template mfma_32x32x8<Scalar>(low(within ? a : none), low(b), sums);
      sums = gpu.template mfma_32x32x8<Scalar>(high(within ? a : none), high(b), sums);
    }
    return sums;
  }

  /// The keys of tile `row` that cover this thread's.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static std::uint64_t covering(Gpu& gpu, const shared& batch, index_t row) {
    return row <= gpu.thread() / 32 ? batch.covering[row][gpu.thread()] : 0;
  }

  /// Which keys are anchors: a wave after the other.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void walk(Gpu& gpu, shared& batch, const std::uint64_t (&before)[block_waves],
                                          index_t count) const {
#pragma GCC unroll 4
    for (index_t turn = 0; turn < block_waves; ++turn) {
      if (gpu.wave() == turn) {
        bool waits = gpu.thread() < count;
#pragma GCC unroll 4
        for (index_t w = 0; w < turn; ++w) waits = waits && (before[w] & batch.anchors[w]) == 0;
        std::uint64_t anchors = 0;
        for (std::uint64_t left = gpu.ballot(waits); left != 0;) {
          const auto          next = static_cast<index_t>(__builtin_ctzll(left));
          const std::uint64_t own  = std::uint64_t{1} << next;
          anchors |= own;
          left &= ~(own | gpu.ballot((before[turn] & own) != 0));
        }
        if (gpu.lane() == 0) batch.anchors[turn] = anchors;
      }
      gpu.barrier();
    }
  }

  /// Keys join the nearest of the anchors that cover them; anchors are listed, in order. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t settle(Gpu& gpu, const shared& batch, const chain_memory& own, index_t head,
                                               index_t range, const std::uint64_t (&before)[block_waves],
                                               index_t count) const {
    const chain_anchor  key = batch.batch[gpu.thread() < count ? gpu.thread() : 0];
    const Scalar* const row = keys.row(key.token, head);
    nearest_anchor      best;
    index_t             slot = 0, all = 0;
    bool                begins = false;
#pragma GCC unroll 4
    for (index_t w = 0; w < block_waves; ++w) {
      const std::uint64_t anchors = batch.anchors[w];
      for (std::uint64_t left = before[w] & anchors; left != 0; left &= left - 1) {
        const chain_anchor other = batch.batch[gfx942::wave * w + __builtin_ctzll(left)];
        best.meet(other, canonical_product(row, keys.row(other.token, head), keys.dim));
      }
      if (w == gpu.wave()) begins = (anchors >> gpu.lane() & 1) != 0, slot = all + voters_below(gpu, anchors);
      all += popcount(anchors);
    }
    if (begins) best = {key.place}, own.anchors[std::int64_t{range} * chain_batch + slot] = key;
    if (gpu.thread() < count) own.nearest[key.place] = best;
    return all;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
