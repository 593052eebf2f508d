#pragma once
// Values that are multiplied unseen: whether what was read of them so far allows it.

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/pair_packing.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Watches the sizes of values on their way: floats need no watch.
template <cpu_backend B, class E>
struct value_watch {
  CASCADA_INLINE void see(vec<B>) noexcept {}
  CASCADA_INLINE bool ordinary() const noexcept { return true; }
};

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
/// Whether all elements so far are below 2^40 in size, so that they may be multiplied with any weight.
template <cpu_backend B>
struct value_watch<B, bf16_pair> {
  __m512i most = _mm512_setzero_si512();  // without signs, times 2

  CASCADA_INLINE void see(vec<B> elements) noexcept {
    most = _mm512_max_epu16(most, _mm512_slli_epi16(_mm512_castps_si512(elements.value), 1));
  }
  CASCADA_INLINE bool ordinary() const noexcept {
    return _mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(static_cast<short>(large_bits << 1))) == 0;
  }
};
#endif

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
