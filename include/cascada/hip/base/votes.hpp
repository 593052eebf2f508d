#pragma once
// Votes: lanes and threads that something holds for, counted in their order.

#include <cstdint>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip {

CASCADA_DEVICE CASCADA_INLINE index_t voters(std::uint64_t votes) { return __builtin_popcountll(votes); }

/// How many lanes below this one voted for something, by ballot.
template <class Gpu>
CASCADA_DEVICE CASCADA_INLINE index_t voters_below(const Gpu& gpu, std::uint64_t votes) {
  return voters(votes & ((std::uint64_t{1} << gpu.lane()) - 1));
}

/// Lanes whose value `counts` append theirs to a list, in the order of the lanes. Returns how many they are.
template <class Gpu, class Value>
CASCADA_DEVICE CASCADA_INLINE index_t append(const Gpu& gpu, bool counts, const Value& value, Value* list) {
  const std::uint64_t votes = gpu.ballot(counts);
  if (counts) list[voters_below(gpu, votes)] = value;
  return voters(votes);
}

/// Votes of a block's threads, in shared memory. Between cast() and the counts the caller has a barrier.
template <index_t Threads>
struct block_votes {
  std::uint64_t of_wave[Threads / gfx942::wave];

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void cast(Gpu& gpu, bool vote) {
    const std::uint64_t votes = gpu.ballot(vote);
    if (gpu.lane() == 0) of_wave[gpu.wave()] = votes;
  }

  /// Of all threads; of those before this one.
  CASCADA_DEVICE CASCADA_INLINE index_t all() const {
    index_t count = 0;
    for (const std::uint64_t votes : of_wave) count += voters(votes);
    return count;
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t before(Gpu& gpu) const {
    index_t count = voters_below(gpu, of_wave[gpu.wave()]);
    for (index_t w = 0; w < Threads / gfx942::wave; ++w) count += w < gpu.wave() ? voters(of_wave[w]) : 0;
    return count;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
