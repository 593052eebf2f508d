#pragma once
// Running sums of sizes, by one block.

#include <cstdint>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// The sum of what the lanes of the wave have up to this one.
template <class Gpu>
CASCADA_DEVICE CASCADA_INLINE std::uint32_t sum_up_to_lane(Gpu& gpu, std::uint32_t sum) {
#pragma GCC                                 unroll 6
  for (index_t step = 1; step < gfx942::wave; step *= 2) {
    const std::uint32_t lower = gpu.shuffle(sum, gpu.lane() < step ? gpu.lane() : gpu.lane() - step);
    if (gpu.lane() >= step) sum += lower;
  }
  return sum;
}

/// Running sums of `count` sizes by a block of `Threads`, and shared memory: `put(i, sum)` hears of those before i, and
/// last of all.
template <index_t Threads>
struct running_sums {
  struct shared {
    std::uint32_t total[Threads / gfx942::wave];
  };

  template <class Gpu, class Size, class Put>
  CASCADA_DEVICE CASCADA_INLINE static void add(Gpu& gpu, shared& totals, index_t count, const Size& size_of,
                                                const Put& put) {
    std::uint32_t before = 0;
    for (index_t base = 0; base < count; base += Threads) {
      const index_t       j    = base + gpu.thread();
      const std::uint32_t size = j < count ? static_cast<std::uint32_t>(size_of(j)) : 0;
      const std::uint32_t sum  = sum_up_to_lane(gpu, size);
      if (gpu.lane() == gfx942::wave - 1) totals.total[gpu.wave()] = sum;
      gpu.barrier();
      std::uint32_t own = before + sum - size;
      for (index_t w = 0; w < Threads / gfx942::wave; ++w) {
        if (w < gpu.wave()) own += totals.total[w];
        before += totals.total[w];
      }
      if (j < count) put(j, static_cast<index_t>(own));
      gpu.barrier();
    }
    if (gpu.thread() == 0 && count >= 0) put(count, static_cast<index_t>(before));
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
