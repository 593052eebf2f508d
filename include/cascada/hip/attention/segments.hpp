#pragma once
// A row's keys in segments of so many tiles, at their places in the walk. Each has a softmax of its own, and these are
// joined in their order.
//
// So a row is the same, bit for bit, whether one block of threads goes from segment to segment, as where there are many
// rows, or each segment has a block, as where there are few.

#include <cstdint>
#include <limits>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Floats that are kept of a row's softmax: sums of weighted values, then {top, sum of weights} of each half of a wave.
CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t kept_floats(index_t dim) { return dim + 4; }

/// What the attention kernel is told of segments, and where their softmaxes are kept. One block's, of what it has so
/// far: sums of weighted values [grid, dim / 8, threads, 4], then {top, sum of weights} [threads, 2]. Of several, for
/// each segment and row, what kept_row says; where a row has one segment, that is the answer, and not kept.
struct key_segments {
  index_t  tiles  = std::numeric_limits<index_t>::max();  // of a segment
  index_t  blocks = 1;        // to a block of queries: one that goes from segment to segment, or one for each segment
  float*   kept   = nullptr;  // [grid, threads (dim / 2 + 2)], or [blocks, rows, kept_floats]
  index_t* counts = nullptr;  // [blocks, rows]: of a row's segments; the first ones are in use

  /// Of a row whose keys are so many tiles.
  CASCADA_DEVICE CASCADA_INLINE index_t count_of(index_t all) const { return (all - 1) / tiles + 1; }
};

/// Where, in what is kept of several segments, that of row `place` of [blocks, rows] lies. 32 bits do: a table's
/// floats.
template <index_t Dim>
struct kept_row {
  std::uint32_t first;

  CASCADA_DEVICE CASCADA_INLINE explicit kept_row(index_t place)
      : first(static_cast<std::uint32_t>(place) * std::uint32_t{kept_floats(Dim)}) {}

  /// Sums of values, four at a time.
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t values(index_t four) const {
    return first + 4 * static_cast<std::uint32_t>(four);
  }
  /// {top, sum} of a half; those of the second lie behind those of the first.
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t sums(index_t half) const {
    return first + Dim + 2 * static_cast<std::uint32_t>(half);
  }
};

/// Turns at `count` tiles one after the other, segment by segment, of which the one at hand has `left` more.
template <class Turn, class End>
CASCADA_DEVICE CASCADA_INLINE void take_turns(index_t count, index_t& left, index_t tiles, const Turn& turn,
                                              const End& end_segment) {
#pragma GCC                        unroll 1
  for (index_t i = 0; i < count;) {
    if (left == 0) end_segment(), left = tiles;
    const index_t end = left < count - i ? i + left : count;
    left -= end - i;
#pragma GCC unroll 1
    for (; i < end; ++i) turn(i);
  }
}

/// A lane's half of a row in them: fours of elements from `first` on, `stride` floats apart, and {top, sum}. The
/// pointer is the same for all lanes, so that the rest takes 32 bits.
struct kept_softmax {
  float*        at;
  std::uint32_t first, stride, sums;
};

/// join(part) for what read(segment) gives of segments [first, count), in their order.
template <class Read, class Join>
CASCADA_DEVICE CASCADA_INLINE void join_segments(index_t first, index_t count, const Read& read, const Join& join) {
  constexpr index_t ahead = 8;  // segments that are read before they are joined
#pragma GCC unroll 1
  for (; first < count; first += ahead) {
    decltype(read(first)) next[ahead];
#pragma GCC unroll 8
    for (index_t i = 0; i < ahead; ++i) next[i] = read(first + i < count ? first + i : first);
#pragma GCC unroll 8
    for (index_t i = 0; i < ahead; ++i)
      if (first + i < count) join(next[i]);
  }
}

/// Four floats on a 16-byte boundary.
CASCADA_DEVICE CASCADA_INLINE sums_4 load_sums(const float* from) noexcept {
  sums_4 value;
  __builtin_memcpy(&value, __builtin_assume_aligned(from, 16), sizeof(value));
  return value;
}
CASCADA_DEVICE CASCADA_INLINE void store_sums(float* to, sums_4 value) noexcept {
  __builtin_memcpy(__builtin_assume_aligned(to, 16), &value, sizeof(value));
}

/// Two softmaxes of a row as one: what each weighs, relative to the larger top. One that has seen nothing changes
/// nothing.
struct joint_softmax {
  float top, earlier, later;

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE joint_softmax(Gpu& gpu, float earlier_top, float later_top, float scale)
      : top(__builtin_fmaxf(earlier_top, later_top)) {
    constexpr float nothing   = -std::numeric_limits<float>::infinity();
    const float     reference = top == nothing ? 0.0f : top;
    earlier                   = gpu.exp2((earlier_top - reference) * scale);
    later                     = gpu.exp2((later_top - reference) * scale);
  }

  /// The order of roundings is told: kernels that join shall not differ in it.
  CASCADA_DEVICE CASCADA_INLINE float operator()(float of_earlier, float of_later) const {
    return __builtin_fmaf(of_later, later, of_earlier * earlier);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
