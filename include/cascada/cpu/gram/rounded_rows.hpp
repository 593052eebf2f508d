#pragma once
// Rows rounded to bfloat16 and held as pairs.
//
// A pair is two neighbours of a row in 32 bits, the earlier one in the lower half: what the instructions multiply at
// once. Where a kernel wants columns, strips [pairs, 16] of packed_rows are what both take as their right operand: a
// vector instruction one line of it with a broadcast pair, a matrix instruction 16 lines. Pairs travel as floats whose
// bits they are; only loads, stores and shuffles touch them.

#include <cstdint>

#include "cascada/cpu/base/amx.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/gram/panels.hpp"
#include "cascada/cpu/gram/verdict.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

template <cpu_backend B>
inline constexpr bool has_bf16_tiles = contains(B::instructions, isa::amx_bf16) && multiplies_pairs<B>;

#ifdef __AVX512BF16__

// Again the undefined registers of g++ 12 (simd.hpp): here if somebody included its intrinsics first.
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// Rounds a row to lanes_of(cols) pairs, whole tiles of them, and returns the sum of the squares of what rounding took
/// away, as a float sum has it: in some order, less what squares lose below the normal range, at most cols 2^-149.
template <cpu_backend B, row_scalar Scalar>
float round_row(const Scalar* row, index_t cols, float* pairs) noexcept {
  const auto error = [](vec<B> x, __m256i rounded, vec<B> sum) {
    const vec<B> lost = x - widen_bfloat16<B>(rounded);
    return multiply_add(lost, lost, sum);
  };
  vec<B> sums[2] = {vec<B>::zero(), vec<B>::zero()};
  for (index_t k = 0; k < cols; k += 32, pairs += 16) {
    vec<B> x[2];
    if (k + 32 <= cols) {
      x[0] = load_floats<B>(row + k), x[1] = load_floats<B>(row + k + 16);
    } else {
      float rest[32] = {};
      for (index_t c = k; c < cols; ++c) rest[c - k] = to_float(row[c]);
      x[0] = vec<B>::load(rest), x[1] = vec<B>::load(rest + 16);
    }
    const vec<B> rounded = round_to_pairs(x[0], x[1]);
    rounded.store(pairs);
    const auto bits = _mm512_castps_si512(rounded.value);
    sums[0]         = error(x[0], _mm512_castsi512_si256(bits), sums[0]);
    sums[1]         = error(x[1], _mm512_extracti64x4_epi64(bits, 1), sums[1]);
  }
  return reduce_sum(sums[0] + sums[1]);
}

#pragma GCC diagnostic pop

#endif

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
