#pragma once
// Lanes of operands: floats, or pairs of bfloat16, which one lane of a bfloat16 product instruction takes.
//
// A lane is 32 bits either way, so operands of both kinds lie in buffers of floats, and kernels that only multiply and
// add are one source: E, float or bf16_pair, says what a lane holds.

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// The first in the lower half.
struct bf16_pair {
  bfloat16 first, second;
};

/// Four integers in a lane, from -63 to 63: numbers in units of a scale that is kept elsewhere. Beside pairs they
/// are kept without a sign, 64 more than they stand for.
struct byte_four {
  std::int8_t first, second, third, fourth;
};

/// Whether the target multiplies pairs: AVX512_BF16, and AVX512DQ for the softmax around the products.
template <cpu_backend B>
inline constexpr bool multiplies_pairs = contains(B::instructions, isa::avx512f | isa::avx512dq | isa::avx512_bf16);

/// A lane that holds 1 twice.
inline constexpr float pair_of_ones = std::bit_cast<float>(0x3f80'3f80u);

/// What attention over rows of a type multiplies.
template <row_scalar Scalar, cpu_backend B>
using operand_of = std::conditional_t<std::same_as<Scalar, bfloat16> && multiplies_pairs<B>, bf16_pair, float>;

template <class E>
inline constexpr index_t elements_per_lane = sizeof(E) / sizeof(E::first);
template <>
inline constexpr index_t elements_per_lane<float> = 1;

/// Lanes of a row of `dim` elements: of pairs, whole vectors, zero beyond `dim`.
template <cpu_backend B, class E>
CASCADA_INLINE constexpr index_t lanes_of(index_t dim) noexcept {
  constexpr index_t elements = vec<B>::width * elements_per_lane<E>;
  return std::same_as<E, float> ? dim : (dim + elements - 1) / elements * vec<B>::width;
}

/// Lanes that `lanes` of E take where they are stored as Stored.
template <class E, class Stored>
CASCADA_INLINE constexpr index_t stored_lanes(index_t lanes) noexcept {
  constexpr index_t packed = elements_per_lane<Stored> / elements_per_lane<E>;
  return (lanes + packed - 1) / packed;
}

#ifdef __AVX512BF16__
/// Two vectors of floats as 16 pairs, rounded to nearest. What is below the normal range becomes zero, as the
/// instructions take it.
template <cpu_backend B>
CASCADA_INLINE vec<B> round_to_pairs(vec<B> first, vec<B> second) noexcept {
  return {reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(second.value, first.value))};
}
#endif

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
template <cpu_backend B>
CASCADA_INLINE vec<B> add_pair_products(vec<B> a, vec<B> b, vec<B> c) noexcept {
  return {_mm512_dpbf16_ps(c.value, reinterpret_cast<__m512bh>(a.value), reinterpret_cast<__m512bh>(b.value))};
}
#endif

/// a x b + c: in lanes of floats a product, in lanes of pairs two, exact before they are added. Subnormal pairs, and
/// subnormal sums of theirs, count as zero.
template <class E, cpu_backend B>
CASCADA_INLINE vec<B> add_products(vec<B> a, vec<B> b, vec<B> c) noexcept {
  if constexpr (std::same_as<E, float>) {
    return multiply_add(a, b, c);
  } else {
    return add_pair_products(a, b, c);
  }
}

/// Lanes [first, first + width) of a row whose lanes are whole vectors.
template <cpu_backend B, class E, row_scalar Scalar>
CASCADA_INLINE vec<B> whole_lanes(const Scalar* row, index_t first) noexcept {
  if constexpr (std::same_as<E, float>)
    return load_floats<B>(row + first);
  else
    return vec<B>::load_bits(row + 2 * first);
}

/// Element k of pairs.
CASCADA_INLINE bfloat16 pair_element(const float* lanes, std::int64_t k) noexcept {
  bfloat16 value;
  std::memcpy(&value, reinterpret_cast<const char*>(lanes) + k * std::int64_t{sizeof value}, sizeof value);
  return value;
}

/// Element k of lanes.
template <class E>
CASCADA_INLINE float element_of(const float* lanes, std::int64_t k) noexcept {
  if constexpr (std::same_as<E, float>)
    return lanes[k];
  else
    return to_float(pair_element(lanes, k));
}

/// Writes one element of pairs.
CASCADA_INLINE void set_element(float* lanes, std::int64_t element, bfloat16 value) noexcept {
  std::memcpy(reinterpret_cast<char*>(lanes) + element * std::int64_t{sizeof value}, &value, sizeof value);
}

}  // namespace cascada::inline CASCADA_ABI::kernel
