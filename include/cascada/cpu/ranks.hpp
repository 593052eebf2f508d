#pragma once
// Scores in order: the bits of floats without sign order as they do.
//
// The functions read whole vectors; what lies beyond `count` has no bit set.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Sum of the amounts whose scores' bits are at least `rank`, a positive number; null: 1 each.
template <cpu_backend B>
CASCADA_INLINE index_t amount_from(index_t rank, const float* scores, const index_t* amounts, index_t count) noexcept {
  typename integers<B>::lanes sum{};
  if (amounts == nullptr)
    for (index_t i = 0; i < count; i += vec<B>::width) sum -= integers<B>::load(scores + i) >= rank;
  else
    for (index_t i = 0; i < count; i += vec<B>::width)
      sum += (integers<B>::load(scores + i) >= rank) & integers<B>::load(amounts + i);
  index_t total = 0;
  for (index_t i = 0; i < vec<B>::width; ++i) total += sum[i];
  return total;
}

/// The largest bits of the scores, at least 0.
template <cpu_backend B>
CASCADA_INLINE index_t highest_rank(const float* scores, index_t count) noexcept {
  typename integers<B>::lanes top{};
  for (index_t i = 0; i < count; i += vec<B>::width) {
    const auto ranks = integers<B>::load(scores + i);
    top              = ranks > top ? ranks : top;
  }
  index_t highest = 0;
  for (index_t i = 0; i < vec<B>::width; ++i) highest = top[i] > highest ? top[i] : highest;
  return highest;
}

/// Copies the scores whose bits are in [low, high), with their amounts unless null, and returns how many; zeros follow
/// up to a whole vector. The copy may be in place; up to a vector beyond it is overwritten.
template <cpu_backend B>
CASCADA_INLINE index_t keep_between(index_t low, std::int64_t high, const float* scores, const index_t* amounts,
                                    index_t count, float* kept_scores, index_t* kept_amounts) noexcept {
  const auto last = static_cast<index_t>(high - 1);
  index_t    kept = 0;
#ifdef __AVX512F__
  for (index_t i = 0; i < count; i += 16) {
    const auto ranks       = _mm512_loadu_si512(scores + i);
    const auto high_enough = _mm512_mask_cmpge_epi32_mask(first_lanes<B>(count - i), ranks, _mm512_set1_epi32(low));
    const auto among       = _mm512_mask_cmple_epi32_mask(high_enough, ranks, _mm512_set1_epi32(last));
    if (amounts) {
      const auto some = _mm512_maskz_compress_epi32(among, _mm512_loadu_si512(amounts + i));
      _mm512_storeu_si512(kept_amounts + kept, some);
    }
    _mm512_storeu_si512(kept_scores + kept, _mm512_maskz_compress_epi32(among, ranks));
    kept += __builtin_popcount(among);
  }
#else
  for (index_t i = 0; i < count; ++i) {
    index_t bits;
    __builtin_memcpy(&bits, scores + i, sizeof bits);
    const bool among  = low <= bits && bits <= last;
    kept_scores[kept] = scores[i];
    if (amounts) kept_amounts[kept] = amounts[i];
    kept += among;
  }
#endif
  vec<B>::zero().store(kept_scores + kept);
  return kept;
}

/// Writes the indices of the scores whose bits are at least `rank`, ascending, and returns how many. Up to a vector
/// beyond them is overwritten.
template <cpu_backend B>
CASCADA_INLINE index_t list_from(index_t rank, const float* scores, index_t count, index_t* list) noexcept {
  index_t listed = 0;
#ifdef __AVX512F__
  static_assert(vec<B>::width == 16);
  auto indices = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (index_t i = 0; i < count; i += 16, indices = _mm512_add_epi32(indices, _mm512_set1_epi32(16))) {
    const auto ranks = _mm512_loadu_si512(scores + i);
    const auto kept  = _mm512_mask_cmpge_epi32_mask(first_lanes<B>(count - i), ranks, _mm512_set1_epi32(rank));
    _mm512_storeu_si512(list + listed, _mm512_maskz_compress_epi32(kept, indices));
    listed += __builtin_popcount(kept);
  }
#else
  for (index_t i = 0; i < count; ++i) {
    index_t bits;
    __builtin_memcpy(&bits, scores + i, sizeof bits);
    list[listed] = i;
    listed += bits >= rank;
  }
#endif
  return listed;
}

/// Writes first, first + 1, ... `count` of them; up to a vector beyond them is overwritten.
template <cpu_backend B>
CASCADA_INLINE void list_run(index_t first, index_t count, index_t* list) noexcept {
  const auto up = integers<B>::count_up();
  for (index_t i = 0; i < count; i += vec<B>::width) integers<B>::store(up + (first + i), list + i);
}

}  // namespace cascada::inline CASCADA_ABI::kernel
