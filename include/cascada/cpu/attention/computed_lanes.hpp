#pragma once
// Rows that are computed, as vectors of floats.

#include <bit>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/computed_rows.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/q8_0.hpp"
#include "cascada/scalar.hpp"

#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12's bug 105593, as in simd.hpp
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// One float16 in all lanes, as to_float has it.
template <cpu_backend B>
CASCADA_INLINE vec<B> broadcast_float(float16 value) noexcept {
#if defined(__AVX512F__)
  return {_mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(value.bits)))};
#elif defined(__aarch64__)
  return vec<B>::broadcast(static_cast<float>(std::bit_cast<__fp16>(value.bits)));
#else
#if defined(__F16C__)
  if constexpr (vec<B>::width == 8) return {_mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(value.bits)))};
#endif
  return vec<B>::broadcast(to_float(value));
#endif
}

/// As many integers as a vector has lanes, as floats.
template <cpu_backend B>
CASCADA_INLINE vec<B> load_integers(const std::int8_t* from) noexcept {
  [[maybe_unused]] const void* const bytes = from;
#if defined(__AVX512F__)
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(bytes))))};
#else
#if defined(__AVX2__)
  if constexpr (vec<B>::width == 8)
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(bytes))))};
#elif defined(__aarch64__)
  if constexpr (vec<B>::width == 4) {
    std::uint32_t four;
    __builtin_memcpy(&four, bytes, sizeof four);
    const auto wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)))};
  }
#endif
  float lanes[vec<B>::width];
  for (index_t lane = 0; lane < vec<B>::width; ++lane) lanes[lane] = static_cast<float>(from[lane]);
  return vec<B>::load(lanes);
#endif
}

/// Element c of a row for a sum. It is rounded before, whatever the compiler contracts.
template <cpu_backend B, class Row>
CASCADA_INLINE float rounded_element(const Row& row, index_t c) noexcept {
  float element = row[c];
  if constexpr (computed_row<Row>) asm("" : "+m"(element));
  return element;
}

/// Lanes [first, first + width), a multiple of the width, of a row, as rounded_element has them.
template <cpu_backend B, class E, computed_row Row>
CASCADA_INLINE vec<B> load_lanes(const Row& row, index_t first, index_t) noexcept {
  float lanes[extent(vec<B>::width)];
  row.load(first, vec<B>::width, lanes);
  asm("" : "+m"(lanes));
  return vec<B>::load(lanes);
}
template <cpu_backend B, class E>
CASCADA_INLINE vec<B> load_lanes(const block_row<q8_0_block>& row, index_t first, index_t) noexcept {
  const q8_0_block& block = row.data[first / q8_0_block::elements];
  return load_integers<B>(block.values + first % q8_0_block::elements) * broadcast_float<B>(block.scale);
}

/// Integers [first, first + 4 width) of a row of `dim`, `first` a multiple, as bits: four to a lane, those beyond its
/// end zero.
template <cpu_backend B>
CASCADA_INLINE vec<B> load_fours(const q8_0_block* row, index_t first, [[maybe_unused]] index_t dim) noexcept {
  constexpr index_t  elements = q8_0_block::elements;
  const std::int8_t* from     = row[first / elements].values + first % elements;
#if defined(__AVX512F__)
  const auto half  = [](const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); };
  const auto upper = first + elements < dim ? half(row[first / elements + 1].values) : _mm256_setzero_si256();
  return {_mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(half(from)), upper, 1))};
#else
  if constexpr (vec<B>::width > 1) return vec<B>::load_bits(from);
  float lanes[extent(vec<B>::width)];
  __builtin_memcpy(lanes, from, sizeof lanes);
  return vec<B>::load(lanes);
#endif
}

/// Integer `which` of the four in each lane, as floats.
template <cpu_backend B>
CASCADA_INLINE vec<B> one_of_fours(vec<B> fours, index_t which) noexcept {
  using words      = integers<B, std::int32_t>;
  const auto whole = (words::load(&fours.value) << (24 - 8 * which)) >> 24;
  const auto lanes = __builtin_convertvector(whole, typename integers<B, float>::lanes);
  __builtin_memcpy(&fours.value, &lanes, sizeof lanes);
  return fours;
}

/// The scales of block `block` of as many rows as a vector has lanes.
template <cpu_backend B>
CASCADA_INLINE vec<B> scales_of(const q8_0_block* const* rows, index_t block) noexcept {
  float16 scales[extent(vec<B>::width)];
  for (index_t i = 0; i < vec<B>::width; ++i) scales[i] = rows[i][block].scale;
  return load_floats<B>(scales);
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention

#pragma GCC diagnostic pop
