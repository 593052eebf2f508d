#pragma once
// Lanes of rows as callers have them, and of means as they are stored: read and written by vectors.

#include <concepts>
#include <cstdint>
#include <cstring>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/computed_lanes.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Lanes [first, first + width) of a row: floats, or pairs of elements, zero from element `dim` and without a row.
template <cpu_backend B, class E, row_scalar Scalar>
CASCADA_INLINE vec<B> load_lanes(strided_row<Scalar> row, index_t first, [[maybe_unused]] index_t dim) noexcept {
  constexpr index_t width = vec<B>::width;
  float             lanes[extent(width)];
  if constexpr (std::same_as<E, float>) {
    if (row.step == 1) return whole_lanes<B, E>(row.data, first);
    for (index_t lane = 0; lane < width; ++lane) lanes[lane] = row[first + lane];
  } else {
    if (row.step == 1 && 2 * (first + width) <= dim) return whole_lanes<B, E>(row.data, first);
    bfloat16 elements[extent(2 * width)] = {};
    for (index_t i = 0; i < 2 * width && 2 * first + i < dim; ++i) elements[i] = row.data[(2 * first + i) * row.step];
    std::memcpy(lanes, elements, sizeof lanes);
  }
  return vec<B>::load(lanes);
}

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
/// Two of the four integers in each lane, that are kept without a sign, as pairs of 128 more: the bits of 128 are those
/// of its exponent, and an integer from 0 to 127 fills the rest.
template <cpu_backend B>
CASCADA_INLINE vec<B> pairs_of_fours(vec<B> fours, index_t which) noexcept {
  const __m512i bytes  = _mm512_castps_si512(fours.value);
  const __m512i first  = _mm512_set4_epi32(static_cast<int>(0x800d'800cu), static_cast<int>(0x8009'8008u),
                                           static_cast<int>(0x8005'8004u), static_cast<int>(0x8001'8000u));
  const __m512i places = _mm512_add_epi32(first, _mm512_set1_epi32(which * 0x2'0002));
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_shuffle_epi8(bytes, places), _mm512_set1_epi16(0x4300)))};
}
#endif

/// What pairs of fours exceed the integers by that they stand for.
inline constexpr float excess_of_fours = 128 + 64;

/// Lanes j, `stride` apart, as factors: those of Stored, which are E's own, or a part of lanes that hold several. j
/// counts lanes of E.
template <cpu_backend B, class E, class Stored>
CASCADA_INLINE vec<B> load_factors(const float* lanes, std::int64_t j, std::int64_t stride) noexcept {
  if constexpr (std::same_as<E, Stored>) {
    return vec<B>::load(lanes + j * stride);
  } else if constexpr (std::same_as<Stored, byte_four> && std::same_as<E, float>) {
    return one_of_fours(vec<B>::load(lanes + j / 4 * stride), static_cast<index_t>(j % 4));
  } else if constexpr (std::same_as<Stored, byte_four>) {
    return pairs_of_fours(vec<B>::load(lanes + j / 2 * stride), static_cast<index_t>(j % 2));
  } else {
    static_assert(std::same_as<E, float> && std::same_as<Stored, bf16_pair>);
    using words     = integers<B, std::uint32_t>;
    const auto bits = (words::load(lanes + j / 2 * stride) << (j % 2 == 0 ? 16 : 0)) & 0xffff'0000u;
    vec<B>     value;
    __builtin_memcpy(&value.value, &bits, sizeof bits);
    return value;
  }
}

/// Writes a vector as elements of a row, rounded as from_float does.
template <cpu_backend B, row_scalar Out>
CASCADA_INLINE void store_elements(vec<B> value, Out* to) noexcept {
  if constexpr (std::same_as<Out, float>) {
    value.store(to);
  } else if constexpr (std::same_as<Out, bfloat16>) {
    using words = integers<B, std::uint32_t>;
    float lanes[vec<B>::width];
    value.store(lanes);
    const auto bits    = words::load(lanes);
    const auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
    const auto halves = (bits & 0x7fff'ffffu) > 0x7f80'0000u ? quiet : rounded;
    const auto stored = __builtin_convertvector(halves, typename integers<B, std::uint16_t>::lanes);
    std::memcpy(static_cast<void*>(to), &stored, sizeof stored);
  } else {
    float lanes[vec<B>::width];
    value.store(lanes);
    for (index_t lane = 0; lane < vec<B>::width; ++lane) to[lane] = from_float<Out>(lanes[lane]);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
