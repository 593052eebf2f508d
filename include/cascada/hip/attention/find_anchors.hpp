#pragma once
// Chains by keys: of a range's keys that no anchor covers, which are anchors (leaf_chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One block for each range and KV head; a thread has a key of the batch. The matrix units tell of most pairs whether
/// one key covers the other, and the canonical product of the rest. Waves then walk over their keys in order, with bits
/// alone: one that no anchor before it covers is an anchor. Last, keys look for the nearest of those that cover them.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct find_anchors {
  static constexpr index_t threads        = chain_batch;
  static constexpr index_t waves_per_simd = 2;

  static constexpr index_t block_waves = threads / gfx942::wave;

  static constexpr index_t tiles = threads / 32;  // of keys

  struct shared {
    block_votes<threads> waiting;
    std::uint64_t        anchors[block_waves];
    chain_anchor         batch[threads];
    std::uint32_t        covering[tiles * (tiles + 1) / 2][32];  // of each key, 32 by 32: those before it that cover it

    /// Where the verdicts of 32 keys on a later 32 lie, or on themselves.
    CASCADA_DEVICE CASCADA_INLINE static constexpr index_t tile(index_t row, index_t column) {
      return column * (column + 1) / 2 + row;
    }
  };

  selection_sets            layer;
  cluster_memory            clusters;
  chain_memory              chains;
  token_rows<Scalar, Place> keys;
  float                     threshold;
  bool                      first;  // round

  index_t grid() const { return chain_memory::ranges(keys.tokens) * keys.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t head = gpu.block() % keys.heads, range = gpu.block() / keys.heads;
    if (layer.of_head(head).failed()) return;
    auto&                              batch = gpu.template shared<shared>();
    const chain_memory                 own   = chains.of(head, keys.tokens);
    const compared_keys<Scalar, Place> with  = {keys, head, threshold};
    const index_t                      last  = (range + 1) * chain_batch;
    const index_t                      end   = gpu.uniform(own.ends[(last < keys.tokens ? last : keys.tokens) - 1]);
    index_t                            next  = gpu.uniform(own.rounds[range].next);
    if (next >= end) {
      if (gpu.thread() == 0) own.rounds[range].count = 0;
      return;
    }
    const index_t count = gather(gpu, batch, own, clusters.of_head(head, keys.tokens).members, next, end);
    compare(gpu, batch, own, with, count);
    std::uint64_t before[block_waves];
#pragma GCC unroll 8
    for (index_t w = 0; w < block_waves; ++w)
      before[w] = covering(gpu, batch, 2 * w) | covering(gpu, batch, 2 * w + 1) << 32;
    walk(gpu, batch, before, count);
    const index_t found = settle(gpu, batch, own, with, range, before, count);
    if (gpu.thread() == 0) own.rounds[range] = {next, found, first ? next : batch.batch[0].place};
  }

 private:
  /// The first keys of places [next, end) that wait. `next` becomes the place after them. Returns how many they are.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t gather(Gpu& gpu, shared& batch, const chain_memory& own, const index_t* members,
                                               index_t& next, index_t end) const {
    index_t count = 0;
    for (; next < end && count < threads; next += threads) {
      const index_t place = next + gpu.thread();
      const bool    waits = place < end && own.nearest[place].none();
      batch.waiting.cast(gpu, waits);
      gpu.barrier();
      const index_t slot = count + batch.waiting.before(gpu);
      count += batch.waiting.all();
      if (waits && slot < threads) batch.batch[slot] = {place, members[place], own.norms[place]};
      gpu.barrier();
    }
    if (count > threads) next = batch.batch[threads - 1].place + 1;
    if (next > end) next = end;
    return count < threads ? count : threads;
  }

  /// Which keys cover which later ones of their cluster. A wave has two columns of the triangle of 32 x 32 tiles, so
  /// that all have as many tiles.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void compare(Gpu& gpu, shared& batch, const chain_memory& own,
                                             const compared_keys<Scalar, Place>& with, index_t count) const {
#pragma GCC unroll 1
    for (index_t n = 0; n < 2; ++n) {
      const index_t column = n == 0 ? gpu.wave() : tiles - 1 - gpu.wave();
      const index_t rows   = 32 * column < count ? column + 1 : 0;  // of tiles
      const index_t i      = 32 * column + gpu.lane() % 32;
      const bool    exists = i < count;
      const auto    key    = batch.batch[exists ? i : 0];
      const index_t begin  = exists ? detail::first_from(batch.batch, 0, i, own.begins[key.place]) : i;
#pragma GCC unroll 1
      for (index_t row = 0; row < rows; ++row) {
        const std::uint32_t asked = bits_below(i - 32 * row) & ~bits_below(begin - 32 * row);
        const std::uint32_t bits  = compare_tile(gpu, batch, with, key, row, count, exists ? asked : 0);
        if (gpu.lane() < 32) batch.covering[shared::tile(row, column)][gpu.lane()] = bits;
      }
    }
    gpu.barrier();
  }

  /// Those of 32 keys that cover this lane's, as bits, of those `asked` for: the canonical product decides where the
  /// matrix units do not.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t compare_tile(Gpu& gpu, const shared& batch,
                                                           const compared_keys<Scalar, Place>& with,
                                                           const chain_anchor& key, index_t row, index_t count,
                                                           std::uint32_t asked) const {
    const chain_anchor* const others = batch.batch + 32 * row;
    const index_t             own    = gpu.lane() % 32;
    const auto                seen =
        with.judge(gpu, key, others[32 * row + own < count ? own : 0], [&](index_t j) { return others[j].norm; });
    return rows_that_cover(gpu, seen, asked,
                           [&](index_t j) { return with.covers(key, others[j], with.product(key, others[j])); });
  }

  /// The keys of tile `row` that cover this thread's.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static std::uint64_t covering(Gpu& gpu, const shared& batch, index_t row) {
    const index_t column = gpu.thread() / 32;
    return row <= column ? batch.covering[shared::tile(row, column)][gpu.thread() % 32] : 0;
  }

  /// Which keys are anchors: a wave after the other.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void walk(Gpu& gpu, shared& batch, const std::uint64_t (&before)[block_waves],
                                          index_t count) const {
#pragma GCC unroll 8
    for (index_t turn = 0; turn < block_waves; ++turn) {
      if (gpu.wave() == turn) {
        bool waits = gpu.thread() < count;
#pragma GCC unroll 8
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
  CASCADA_DEVICE CASCADA_INLINE index_t settle(Gpu& gpu, const shared& batch, const chain_memory& own,
                                               const compared_keys<Scalar, Place>& with, index_t   range,
                                               const std::uint64_t (&before)[block_waves], index_t count) const {
    const chain_anchor key = batch.batch[gpu.thread() < count ? gpu.thread() : 0];
    covering_row       best;
    index_t            slot = 0, all = 0;
    bool               begins = false;
#pragma GCC unroll 8
    for (index_t w = 0; w < block_waves; ++w) {
      const std::uint64_t anchors = batch.anchors[w];
      for (std::uint64_t left = before[w] & anchors; left != 0; left &= left - 1) {
        const chain_anchor other = batch.batch[gfx942::wave * w + __builtin_ctzll(left)];
        const covering_row found = {other.place, with.product(key, other), other.norm};
        if (found.nearer_than(best)) best = found;
      }
      if (w == gpu.wave()) begins = (anchors >> gpu.lane() & 1) != 0, slot = all + voters_below(gpu, anchors);
      all += voters(anchors);
    }
    if (begins) best = {.place = key.place}, own.anchors[std::int64_t{range} * chain_batch + slot] = key;
    if (gpu.thread() < count) own.nearest[key.place] = best;
    return all;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
