#pragma once
// What the last bands of a sequence that grows found open, so that a call that begins within a band goes on from there.

#include <cstdint>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Of a call that ends in band `last`, the first one of which it remembers what opened.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t first_remembered(index_t last) { return last - 1; }

/// Bands that are remembered: the last two, and the one in which a call begins, which it reads while it writes those.
inline constexpr index_t remembered_bands = 3;

/// Which band each record has: its number plus 1; 0: none.
struct remembered_slots {
  index_t band[remembered_bands];

  /// The record of a band; negative: none.
  CASCADA_DEVICE CASCADA_INLINE index_t of(index_t number) const {
    index_t slot = -1;
#pragma GCC unroll 3
    for (index_t s = 0; s < remembered_bands; ++s)
      if (band[s] == number + 1) slot = s;
    return slot;
  }

  /// Gives records to the last two bands, those of a call from band `own` to band `last`, whose first band keeps its
  /// own, as does the one before the last.
  CASCADA_DEVICE CASCADA_INLINE void begin_call(index_t own, index_t last) {
    for (index_t number = last > own ? first_remembered(last) : own; number <= last; ++number) {
      if (of(number) >= 0) continue;
      index_t free = 0;
#pragma GCC unroll 3
      for (index_t s = 0; s < remembered_bands; ++s) {
        const index_t has = band[s] - 1;
        if (has != own && (has < first_remembered(last) || has > last)) free = s;
      }
#pragma GCC unroll 3
      for (index_t s = 0; s < remembered_bands; ++s)
        if (s == free) band[s] = number + 1;
    }
  }
};

/// From which token on all is remembered, after a call that ends before token `end`; before it, at the edges of bands
/// alone.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t remembered_from(index_t before, index_t end, index_t band) {
  const index_t last_two = first_remembered((end - 1) / band) * band;
  return last_two > before ? last_two : before;
}

/// The records of `room` leaves at most: of each, a bit for each token of the band. Those of tokens that are not there
/// yet mean nothing.
struct remembered_leaves {
  std::uint32_t* open;   // [remembered_bands, kv_heads, room, words]
  index_t        words;  // of a leaf
  index_t        kv_heads;
  index_t        room;  // tokens

  /// A leaf's words.
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t* of(index_t slot, index_t kv_head, index_t leaf) const {
    return open + ((std::int64_t{slot} * kv_heads + kv_head) * room + leaf) * words;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
