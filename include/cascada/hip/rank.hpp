#pragma once
// The cut that takes the best scores, found by their bits: a histogram for each byte, by one wave.

#include <bit>
#include <cstdint>

#include "cascada/hip/device.hpp"

namespace cascada::hip {

/// An integer that orders as floats do; NaN is somewhere.
CASCADA_DEVICE CASCADA_INLINE std::uint32_t rank_of(float score) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(score);
  return (bits >> 31) != 0 ? ~bits : bits | 0x8000'0000u;
}

/// Ranks above `rank` are taken, and of the `tied` amounts on it as much as there is `room` for.
struct rank_cut {
  std::uint32_t rank;
  index_t       room, tied;
};

struct rank_histogram {
  index_t amount[256];
};

/// Sum of the values of all lower lanes.
template <class Gpu>
CASCADA_DEVICE CASCADA_INLINE index_t sum_below(Gpu& gpu, index_t value, index_t& total) {
  auto sum = static_cast<std::uint32_t>(value);
#pragma GCC unroll 6
  for (index_t step = 1; step < gfx942::wave; step *= 2) {
    const std::uint32_t lower = gpu.shuffle(sum, gpu.lane() < step ? gpu.lane() : gpu.lane() - step);
    if (gpu.lane() >= step) sum += lower;
  }
  total = gpu.read_lane(static_cast<index_t>(sum), gfx942::wave - 1);
  return static_cast<index_t>(sum) - value;
}

/// The cut that takes `enough` of the amounts, which are as much or more. rank(i) and amount(i) for i in [0, count).
/// A block of one wave; integers only, so the order in which lanes add does not matter.
template <class Gpu, class Rank, class Amount>
CASCADA_DEVICE CASCADA_INLINE rank_cut find_cut(Gpu& gpu, rank_histogram& memory, index_t count, index_t enough,
                                                Rank rank, Amount amount) {
  std::uint32_t found = 0;
  index_t       tied  = 0;
#pragma GCC unroll 1
  for (index_t shift = 24; shift >= 0; shift -= 8) {
    const std::uint32_t known = shift == 24 ? 0 : ~0u << (shift + 8);
#pragma GCC unroll 4
    for (index_t e = 0; e < 4; ++e) memory.amount[4 * gpu.lane() + e] = 0;
    gpu.barrier();
    for (index_t i = gpu.lane(); i < count; i += gfx942::wave) {
      const std::uint32_t own = rank(i);
      if (((own ^ found) & known) == 0) gpu.atomic_add(&memory.amount[255 - (own >> shift & 255)], amount(i));
    }
    gpu.barrier();
    // The highest bytes come first: lane l has the amounts of four of them.
    index_t own = 0, all = 0;
#pragma GCC unroll 4
    for (index_t e = 0; e < 4; ++e) own += memory.amount[4 * gpu.lane() + e];
    index_t       above = sum_below(gpu, own, all);
    const index_t lane  = __builtin_ctzll(gpu.ballot(above + own >= enough));
    index_t       place = 4 * gpu.lane();
#pragma GCC unroll 3
    for (index_t e = 0; e < 3; ++e) {
      const bool next = above + memory.amount[place] < enough;
      above += next ? memory.amount[place] : 0;
      place += next;
    }
    enough -= gpu.read_lane(above, lane);
    const index_t byte = gpu.read_lane(place, lane);
    tied               = memory.amount[byte];
    found |= static_cast<std::uint32_t>(255 - byte) << shift;
    gpu.barrier();
  }
  return {found, enough, tied};
}

}  // namespace cascada::hip
