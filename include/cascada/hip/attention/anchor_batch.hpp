#pragma once
// A batch of keys, of which one block tells which begin chains and become anchors (leaf_chains.hpp).

#include <cstdint>

#include "cascada/hip/attention/compared_keys.hpp"
#include "cascada/hip/attention/leaf_chains.hpp"
#include "cascada/hip/base/votes.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// What find_anchors and find_grown_anchors have in common. A thread has a key of the batch. The matrix units tell of
/// most pairs whether one key covers the other, and the canonical product of the rest. Waves then walk over their keys
/// in order, with bits alone: one that no anchor before it covers is an anchor. Last, keys look for the nearest of
/// those that cover them.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct anchor_batch {
  static constexpr index_t threads     = chain_batch;
  static constexpr index_t block_waves = threads / gfx942::wave;

  static constexpr index_t tiles = threads / 32;  // of keys

  struct shared {
    std::uint64_t anchors[block_waves];
    chain_anchor  batch[threads];
    std::uint32_t covering[tiles * (tiles + 1) / 2][32];  // of each key, 32 by 32: those before it that cover it

    /// Where the verdicts of 32 keys on a later 32 lie, or on themselves.
    CASCADA_DEVICE CASCADA_INLINE static constexpr index_t tile(index_t row, index_t column) {
      return column * (column + 1) / 2 + row;
    }
  };

  using keys = compared_keys<Scalar, Place>;

  /// The keys before a thread's that cover it, as bits of each wave's.
  struct covering_keys {
    std::uint64_t of_wave[block_waves];
  };

  /// Which keys cover which later ones: asked_of(i, key)(row) has as bits those of 32 row + [0, 32) that key i, which
  /// is `key`, is compared with. A wave has two columns of the triangle of 32 x 32 tiles, so that all have as many
  /// tiles.
  template <class Gpu, class Asked>
  CASCADA_DEVICE CASCADA_INLINE static void compare(Gpu& gpu, shared& lds, const keys& with, index_t count,
                                                    const Asked& asked_of) {
#pragma GCC unroll 1
    for (index_t n = 0; n < 2; ++n) {
      const index_t column = n == 0 ? gpu.wave() : tiles - 1 - gpu.wave();
      const index_t rows   = 32 * column < count ? column + 1 : 0;  // of tiles
      const index_t i      = 32 * column + gpu.lane() % 32;
      const bool    exists = i < count;
      const auto    key    = lds.batch[exists ? i : 0];
      const auto    asked  = asked_of(exists ? i : 0, key);
#pragma GCC unroll 1
      for (index_t row = 0; row < rows; ++row) {
        const std::uint32_t before = bits_below(i - 32 * row) & asked(row);
        const std::uint32_t bits   = compare_tile(gpu, lds, with, key, row, count, exists ? before : 0);
        if (gpu.lane() < 32) lds.covering[shared::tile(row, column)][gpu.lane()] = bits;
      }
    }
    gpu.barrier();
  }

  /// What compare() found for a thread's key.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static covering_keys covering(Gpu& gpu, const shared& lds) {
    covering_keys before;
#pragma GCC unroll 8
    for (index_t w = 0; w < block_waves; ++w)
      before.of_wave[w] = covering_of_tile(gpu, lds, 2 * w) | covering_of_tile(gpu, lds, 2 * w + 1) << 32;
    return before;
  }

  /// Which keys are anchors, of those that may be: a wave after the other.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void walk(Gpu& gpu, shared& lds, const covering_keys& before, bool waits) {
#pragma GCC unroll 8
    for (index_t turn = 0; turn < block_waves; ++turn) {
      if (gpu.wave() == turn) {
#pragma GCC unroll 8
        for (index_t w = 0; w < turn; ++w) waits = waits && (before.of_wave[w] & lds.anchors[w]) == 0;
        std::uint64_t anchors = 0;
        for (std::uint64_t left = gpu.ballot(waits); left != 0;) {
          const auto          next = static_cast<index_t>(__builtin_ctzll(left));
          const std::uint64_t own  = std::uint64_t{1} << next;
          anchors |= own;
          left &= ~(own | gpu.ballot((before.of_wave[turn] & own) != 0));
        }
        if (gpu.lane() == 0) lds.anchors[turn] = anchors;
      }
      gpu.barrier();
    }
  }

  /// What walk() found: how many anchors there are, and of a thread's key whether it is one, and how many are before.
  struct found_anchors {
    index_t all = 0, before = 0;
    bool    begins = false;
  };

  /// Keys join the nearest of the anchors that cover them, or stay with `best`.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static found_anchors settle(Gpu& gpu, const shared& lds, const keys& with,
                                                            const covering_keys& before, const chain_anchor& key,
                                                            covering_row& best) {
    found_anchors found;
#pragma GCC unroll 8
    for (index_t w = 0; w < block_waves; ++w) {
      const std::uint64_t anchors = lds.anchors[w];
      for (std::uint64_t left = before.of_wave[w] & anchors; left != 0; left &= left - 1) {
        const chain_anchor other = lds.batch[gfx942::wave * w + __builtin_ctzll(left)];
        with.join(key, other, best);
      }
      if (w == gpu.wave()) {
        found.begins = (anchors >> gpu.lane() & 1) != 0;
        found.before = found.all + voters_below(gpu, anchors);
      }
      found.all += voters(anchors);
    }
    return found;
  }

 private:
  /// Those of 32 keys that cover this lane's, as bits, of those `asked` for: the canonical product decides where the
  /// matrix units do not.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static std::uint32_t compare_tile(Gpu& gpu, const shared& lds, const keys& with,
                                                                  const chain_anchor& key, index_t row, index_t count,
                                                                  std::uint32_t asked) {
    const chain_anchor* const others = lds.batch + 32 * row;
    const index_t             own    = gpu.lane() % 32;
    const auto                seen =
        with.judge(gpu, key, others[32 * row + own < count ? own : 0], [&](index_t j) { return others[j].norm; });
    return rows_that_cover(gpu, seen, asked,
                           [&](index_t j) { return with.covers(key, others[j], with.product(key, others[j])); });
  }

  /// The keys of tile `row` that cover this thread's.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static std::uint64_t covering_of_tile(Gpu& gpu, const shared& lds, index_t row) {
    const index_t column = gpu.thread() / 32;
    return row <= column ? lds.covering[shared::tile(row, column)][gpu.thread() % 32] : 0;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
