#pragma once
// Rows that are computed, as vectors of floats.

#include <bit>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/computed_rows.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

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
#if defined(__AVX512F__)
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))))};
#else
#if defined(__AVX2__)
  if constexpr (vec<B>::width == 8)
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))))};
#elif defined(__aarch64__)
  if constexpr (vec<B>::width == 4) {
    std::uint32_t bytes;
    __builtin_memcpy(&bytes, from, sizeof bytes);
    const auto wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes)));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)))};
  }
#endif
  float lanes[vec<B>::width];
  for (index_t lane = 0; lane < vec<B>::width; ++lane) lanes[lane] = static_cast<float>(from[lane]);
  return vec<B>::load(lanes);
#endif
}

/// Lanes [first, first + width), a multiple of the width, of a row.
template <cpu_backend B, class E, computed_row Row>
CASCADA_INLINE vec<B> load_lanes(const Row& row, index_t first, index_t) noexcept {
  float lanes[extent(vec<B>::width)];
  row.load(first, vec<B>::width, lanes);
  return vec<B>::load(lanes);
}
template <cpu_backend B, class E>
CASCADA_INLINE vec<B> load_lanes(const block_row<q8_0_block>& row, index_t first, index_t) noexcept {
  const q8_0_block& block = row.data[first / q8_0_block::elements];
  return load_integers<B>(block.values + first % q8_0_block::elements) * broadcast_float<B>(block.scale);
}

/// The first `dim` elements of a row as floats; of blocks, whole blocks.
template <cpu_backend B, computed_row Row>
CASCADA_INLINE void write_floats(const Row& row, index_t dim, float* to) noexcept {
  row.load(0, dim, to);
}
template <cpu_backend B>
CASCADA_INLINE void write_floats(const block_row<q8_0_block>& row, index_t dim, float* to) noexcept {
  constexpr index_t elements = q8_0_block::elements;
  for (const q8_0_block* block = row.data; dim > 0; ++block, dim -= elements, to += elements) {
    const auto scale = broadcast_float<B>(block->scale);
#pragma GCC unroll 8
    for (index_t c = 0; c < elements; c += vec<B>::width) (load_integers<B>(block->values + c) * scale).store(to + c);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel
