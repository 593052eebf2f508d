#pragma once
// Values of bfloat16 packed in pairs: large ones are told of, and what is not finite lies apart.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/pair_weights.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)

#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12's bug 105593, as in simd.hpp
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// Bits of 2^40, a large value, and of infinity: without sign, bits order as values do.
inline constexpr std::uint16_t large_bits = (127 + 40) << 7, infinite_bits = 0x7f80;

/// Elements whose bits are at least `bits`, the sign aside: bit 2i the first element of lane i, 2i + 1 the second.
template <cpu_backend B>
CASCADA_INLINE __mmask32 elements_from(std::uint16_t bits, __m512i pairs) noexcept {
  const __m512i sizes = _mm512_and_si512(pairs, _mm512_set1_epi16(0x7fff));
  return _mm512_cmpge_epu16_mask(sizes, _mm512_set1_epi16(static_cast<short>(bits)));
}

/// 16 elements of a row from c, zero from `dim` and without data.
template <cpu_backend B>
CASCADA_INLINE __m256i load_elements(const strided_row<bfloat16>& row, index_t c, index_t dim) noexcept {
  bfloat16 elements[16] = {};
  if (row.step == 1 && row.data && c + 16 <= dim)
    return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(row.data + c)));
  for (index_t i = 0; row.data && i < 16 && c + i < dim; ++i) elements[i] = row.data[(c + i) * row.step];
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(elements)));
}

/// Rows first, second [dim] side by side: pairs [stride], zero from `dim`. A row without data is zero. Returns which
/// places have large elements, as elements_from.
template <cpu_backend B>
CASCADA_INLINE __mmask32 interleave(const strided_row<bfloat16>& first, const strided_row<bfloat16>& second,
                                    index_t dim, index_t stride, float* pairs) noexcept {
  __m512i most = _mm512_setzero_si512();
  for (index_t c = 0; c < stride; c += 16) {
    const __m512i lower = _mm512_cvtepu16_epi32(load_elements<B>(first, c, dim));
    const __m512i upper = _mm512_cvtepu16_epi32(load_elements<B>(second, c, dim));
    const __m512i both  = _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16));
    most                = _mm512_max_epu16(most, _mm512_and_si512(both, _mm512_set1_epi16(0x7fff)));
    _mm512_storeu_si512(pairs + c, both);
  }
  return elements_from<B>(large_bits, most);
}

/// Of pairs [stride]: their places with large elements that are finite, and with such that are not.
struct large_places {
  __mmask32 finite = 0, other = 0;
};
template <cpu_backend B>
large_places find_large(const float* pairs, index_t stride) noexcept {
  large_places found;
  for (index_t c = 0; c < stride; c += 16) {
    const __m512i   both = _mm512_loadu_si512(pairs + c);
    const __mmask32 wild = elements_from<B>(infinite_bits, both);
    found.other |= wild;
    found.finite |= elements_from<B>(large_bits, both) & ~wild;
  }
  return found;
}

/// pairs [whole_weights(count) / 2, stride] of value(0) .. value(count - 1), zero beyond them. Returns whether all is
/// finite. `large(j)` is told of values with a large element that is finite.
template <cpu_backend B, class Value, class Large>
bool pack_value_pairs(const Value& value, index_t count, index_t dim, index_t stride, float* pairs,
                      const Large& large) noexcept {
  constexpr __mmask32 firsts = 0x5555'5555;
  bool                finite = true;
  for (index_t i = 0; i < whole_weights(count); i += 2, pairs += stride) {
    decltype(value(0)) first{nullptr, 1}, second{nullptr, 1};
    if (i < count) first = value(i);
    if (i + 1 < count) second = value(i + 1);
    if (interleave<B>(first, second, dim, stride, pairs) == 0) continue;
    const large_places found = find_large<B>(pairs, stride);
    if (found.finite & firsts) large(i);
    if (found.finite & ~firsts) large(i + 1);
    finite = finite && found.other == 0;
  }
  return finite;
}

/// Moves what is not finite from `lanes` lanes of pairs to `wild`, and leaves zeros.
template <cpu_backend B>
void separate_wild(float* pairs, std::int64_t lanes, float* wild) noexcept {
  for (std::int64_t i = 0; i < lanes; i += 16) {
    const __m512i   both   = _mm512_loadu_si512(pairs + i);
    const __mmask32 places = elements_from<B>(infinite_bits, both);
    _mm512_storeu_si512(wild + i, _mm512_maskz_mov_epi16(places, both));
    _mm512_storeu_si512(pairs + i, _mm512_maskz_mov_epi16(~places, both));
  }
}

#pragma GCC diagnostic pop

#endif

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
