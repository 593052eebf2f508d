#pragma once
// Vectors of floats, as wide as the compiler's flags allow: the one header that touches Eigen's packet primitives.
//
// Eigen's packets cover x86-64 (SSE to AVX-512), NEON and a scalar fallback, but are internal to it; nothing outside
// this header names them.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/scalar.hpp"

// g++ 12 takes the undefined registers of its own AVX-512 intrinsics for a mistake (its bug 105593), where they are
// defined and wherever they are inlined. A packet is a register type with attributes; as a template argument it loses
// them, harmlessly.
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

#include <Eigen/Core>

#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "cascada needs Eigen 3.4 or later"
#include "cascada: see above"  // ends the compilation: what follows would give errors by the dozen
#endif
#ifdef EIGEN_DONT_VECTORIZE
#error "cascada needs Eigen's vectors: without EIGEN_DONT_VECTORIZE, EIGEN_DONT_ALIGN, EIGEN_MAX_ALIGN_BYTES=0"
#include "cascada: see above"
#endif

namespace cascada::inline CASCADA_ABI::kernel {

/// A count as the extent of an array: in templates, g++ takes a plain index_t for one that might be negative.
CASCADA_INLINE constexpr std::size_t extent(index_t count) noexcept { return static_cast<std::size_t>(count); }

/// `width` floats in one register.
template <cpu_backend B>
struct vec {
  using packet                   = Eigen::internal::packet_traits<float>::type;
  static constexpr index_t width = sizeof(packet) / sizeof(float);

  packet value;

  CASCADA_INLINE static vec zero() noexcept { return {Eigen::internal::pset1<packet>(0.0f)}; }
  CASCADA_INLINE static vec broadcast(float x) noexcept { return {Eigen::internal::pset1<packet>(x)}; }
  CASCADA_INLINE static vec load(const float* from) noexcept { return {Eigen::internal::ploadu<packet>(from)}; }
  /// The bits of whatever is there: a vector load may alias anything.
  CASCADA_INLINE static vec load_bits(const void* from) noexcept { return load(static_cast<const float*>(from)); }
  CASCADA_INLINE void       store(float* to) const noexcept { Eigen::internal::pstoreu(to, value); }

  CASCADA_INLINE friend vec operator+(vec a, vec b) noexcept { return {Eigen::internal::padd(a.value, b.value)}; }
  CASCADA_INLINE friend vec operator-(vec a, vec b) noexcept { return {Eigen::internal::psub(a.value, b.value)}; }
  CASCADA_INLINE friend vec operator*(vec a, vec b) noexcept { return {Eigen::internal::pmul(a.value, b.value)}; }
  CASCADA_INLINE friend vec operator/(vec a, vec b) noexcept { return {Eigen::internal::pdiv(a.value, b.value)}; }
};

/// Lanes in which a <= b, as a mask: all bits of the lane, or none.
template <cpu_backend B>
CASCADA_INLINE vec<B> less_equal(vec<B> a, vec<B> b) noexcept {
  return {Eigen::internal::pcmp_le(a.value, b.value)};
}

/// A mask as bits: lane 0 is the lowest.
template <cpu_backend B>
CASCADA_INLINE std::uint32_t lane_bits(vec<B> mask) noexcept {
  if constexpr (vec<B>::width == 1) {
    return Eigen::internal::predux_any(mask.value);
  } else {
#if defined(__AVX__)
    if constexpr (vec<B>::width == 8) return static_cast<std::uint32_t>(_mm256_movemask_ps(mask.value));
#endif
#if defined(__SSE2__)
    if constexpr (vec<B>::width == 4) return static_cast<std::uint32_t>(_mm_movemask_ps(mask.value));
#endif
    std::uint32_t lanes[vec<B>::width], bits = 0;
    __builtin_memcpy(lanes, &mask.value, sizeof lanes);
    for (index_t i = 0; i < vec<B>::width; ++i) bits |= (lanes[i] & 1u) << i;
    return bits;
  }
}

/// Lanes in which a <= b, or a < b, as bits.
template <cpu_backend B>
CASCADA_INLINE std::uint32_t bits_less_equal(vec<B> a, vec<B> b) noexcept {
#ifdef __AVX512F__
  return _mm512_cmp_ps_mask(a.value, b.value, _CMP_LE_OQ);
#else
  return lane_bits(less_equal(a, b));
#endif
}
template <cpu_backend B>
CASCADA_INLINE std::uint32_t bits_less(vec<B> a, vec<B> b) noexcept {
#ifdef __AVX512F__
  return _mm512_cmp_ps_mask(a.value, b.value, _CMP_LT_OQ);
#else
  return lane_bits(vec<B>{Eigen::internal::pcmp_lt(a.value, b.value)});
#endif
}

#ifdef __AVX512F__
/// The first `count` lanes, as far as a vector goes.
template <cpu_backend B>
CASCADA_INLINE __mmask16 first_lanes(index_t count) noexcept {
  return count >= 16 ? __mmask16{0xffff} : count <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << count) - 1);
}
#endif

/// The larger of each pair; where one is NaN, `a`.
template <cpu_backend B>
CASCADA_INLINE vec<B> max(vec<B> a, vec<B> b) noexcept {
  return {Eigen::internal::pmax(a.value, b.value)};
}

/// The smaller of each pair; where one is NaN, `a`.
template <cpu_backend B>
CASCADA_INLINE vec<B> min(vec<B> a, vec<B> b) noexcept {
  return {Eigen::internal::pmin(a.value, b.value)};
}

/// The largest element, and the sum of the elements, by halves: an order that depends on the width alone. Written out,
/// because Eigen's reductions of wide packets call those of narrow ones, which differently compiled objects share.
template <cpu_backend B, class Combine>
CASCADA_INLINE float reduce(vec<B> a, const Combine& combine) noexcept {
  float lanes[vec<B>::width];
  a.store(lanes);
#pragma GCC unroll 4
  for (index_t half = vec<B>::width / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (index_t i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  return lanes[0];
}
template <cpu_backend B>
CASCADA_INLINE float reduce_max(vec<B> a) noexcept {
  return reduce(a, [](float x, float y) { return y > x ? y : x; });
}
template <cpu_backend B>
CASCADA_INLINE float reduce_sum(vec<B> a) noexcept {
  return reduce(a, [](float x, float y) { return x + y; });
}

/// `rows` as the columns of a square patch: element (i, k) moves to (k, i).
template <cpu_backend B>
CASCADA_INLINE void transpose(vec<B> (&rows)[vec<B>::width]) noexcept {
#ifdef __AVX512F__
  // Four columns of four rows at a time within each quarter of a register, then quarters: 64 shuffles, where Eigen
  // takes half as many again.
#pragma GCC unroll 4
  for (index_t g = 0; g < 16; g += 4) {
    const __m512 a    = _mm512_unpacklo_ps(rows[g].value, rows[g + 1].value);
    const __m512 b    = _mm512_unpackhi_ps(rows[g].value, rows[g + 1].value);
    const __m512 c    = _mm512_unpacklo_ps(rows[g + 2].value, rows[g + 3].value);
    const __m512 d    = _mm512_unpackhi_ps(rows[g + 2].value, rows[g + 3].value);
    rows[g].value     = _mm512_shuffle_ps(a, c, 0x44);
    rows[g + 1].value = _mm512_shuffle_ps(a, c, 0xee);
    rows[g + 2].value = _mm512_shuffle_ps(b, d, 0x44);
    rows[g + 3].value = _mm512_shuffle_ps(b, d, 0xee);
  }
#pragma GCC unroll 4
  for (index_t j = 0; j < 4; ++j) {
    const __m512 a     = _mm512_shuffle_f32x4(rows[j].value, rows[4 + j].value, 0x88);
    const __m512 b     = _mm512_shuffle_f32x4(rows[j].value, rows[4 + j].value, 0xdd);
    const __m512 c     = _mm512_shuffle_f32x4(rows[8 + j].value, rows[12 + j].value, 0x88);
    const __m512 d     = _mm512_shuffle_f32x4(rows[8 + j].value, rows[12 + j].value, 0xdd);
    rows[j].value      = _mm512_shuffle_f32x4(a, c, 0x88);
    rows[4 + j].value  = _mm512_shuffle_f32x4(b, d, 0x88);
    rows[8 + j].value  = _mm512_shuffle_f32x4(a, c, 0xdd);
    rows[12 + j].value = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
#else
  Eigen::internal::PacketBlock<typename vec<B>::packet, vec<B>::width> block;
  for (index_t i = 0; i < vec<B>::width; ++i) block.packet[i] = rows[i].value;
  Eigen::internal::ptranspose(block);
  for (index_t i = 0; i < vec<B>::width; ++i) rows[i].value = block.packet[i];
#endif
}

/// Without the signs; NaN stays NaN.
template <cpu_backend B>
CASCADA_INLINE vec<B> abs(vec<B> a) noexcept {
  return {Eigen::internal::pabs(a.value)};
}

/// a * b + c as fast as the target allows: fused where it has FMA, rounded twice where not.
template <cpu_backend B>
CASCADA_INLINE vec<B> multiply_add(vec<B> a, vec<B> b, vec<B> c) noexcept {
  return {Eigen::internal::pmadd(a.value, b.value, c.value)};
}

/// As many integers as vec<B> has floats. A compiler's vector type: it compares and selects alike on every target.
template <cpu_backend B, class Integer = index_t>
struct integers {
  using lanes [[gnu::vector_size(vec<B>::width * sizeof(Integer))]] = Integer;

  CASCADA_INLINE static lanes load(const void* from) noexcept {
    lanes value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }
  CASCADA_INLINE static void store(lanes value, Integer* to) noexcept { __builtin_memcpy(to, &value, sizeof value); }
};

/// The larger of x and a negative limit; NaN stays NaN, also where the compiler takes max for commutative.
template <cpu_backend B>
CASCADA_INLINE vec<B> not_below(vec<B> x, float limit) noexcept {
#if __FINITE_MATH_ONLY__
  using words            = integers<B, std::uint32_t>;
  const auto     bits    = words::load(&x.value);
  constexpr auto lowest  = std::uint32_t{0xff80'0000};  // -infinity; of negative numbers, bits order as sizes do
  const auto     least   = __builtin_bit_cast(std::uint32_t, limit);
  const auto     low     = (bits > least) & (bits <= lowest);
  const auto     clamped = low ? (bits & 0u) + least : bits;
  __builtin_memcpy(&x.value, &clamped, sizeof x.value);
  return x;
#else
  return max(x, vec<B>::broadcast(limit));
#endif
}

/// 2^x within 2 ulp, for -126 <= x < 127.5. Exactly 1 at 0, exactly 0 below -126.5, and NaN stays NaN.
template <cpu_backend B>
CASCADA_INLINE vec<B> exp2(vec<B> x) noexcept {
#ifdef __AVX512DQ__
  // 2^f on [0, 1], of least relative error with 1 at 0: below 3e-9.
  const __m512 part  = _mm512_reduce_ps(x.value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
  __m512       power = _mm512_set1_ps(0.000216129279f);
  for (const float coefficient : {0.00124678423f, 0.00967545155f, 0.0554852821f, 0.240229309f, 0.693147063f, 1.0f})
    power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(coefficient));
#if __FINITE_MATH_ONLY__
  // By bits, since clang compares as if NaN were a number: all but those of numbers below -126, which lie side by side.
  const auto    beyond = _mm512_set1_epi32(static_cast<int>(0xc2fc'0001u));
  const __m512i ahead  = _mm512_sub_epi32(_mm512_castps_si512(x.value), beyond);
  const auto    normal = _mm512_cmpgt_epu32_mask(ahead, _mm512_set1_epi32(0xff80'0000u - 0xc2fc'0001u));
#else
  const auto normal = _mm512_cmp_ps_mask(x.value, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
#endif
  return {_mm512_maskz_scalef_ps(normal, power, x.value)};
#else
  namespace packets    = Eigen::internal;
  using packet         = typename vec<B>::packet;
  const vec<B> clamped = not_below(x, -127.0f);  // 2^-127 is given the bits of zero below
  const vec<B> whole   = {packets::print(clamped.value)};
  const vec<B> part    = clamped - whole;
  // (2^f - 1) / f on [-1/2, 1/2], interpolated at the Chebyshev nodes: relative error of 2^f below 1e-8.
  vec<B> power = vec<B>::broadcast(0.000154531634f);
  for (const float coefficient : {0.00133908633f, 0.00961808302f, 0.0555035695f, 0.240226507f, 0.693147182f, 1.0f})
    power = multiply_add(power, part, vec<B>::broadcast(coefficient));
  if constexpr (vec<B>::width == 1) {
    return {packets::pldexp(power.value, whole.value)};
  } else {
    using integers      = typename packets::unpacket_traits<packet>::integer_packet;
    const auto exponent = packets::pcast<packet, integers>((whole + vec<B>::broadcast(127.0f)).value);
    return power * vec<B>{packets::preinterpret<packet>(packets::plogical_shift_left<23>(exponent))};
  }
#endif
}

/// a / b, also of infinite elements: -ffast-math lets clang divide by an estimate that it mends, which makes them NaN.
template <cpu_backend B>
CASCADA_INLINE vec<B> quotient(vec<B> a, float b) noexcept {
#if __FINITE_MATH_ONLY__
  return a * vec<B>::broadcast(1 / b);
#else
  return a / vec<B>::broadcast(b);
#endif
}

/// -2 log2(e): of 2^(minus_two_log2e x) = e^(-2 x).
inline constexpr float minus_two_log2e = -2.88539008f;

/// tanh x within 4 ulp; NaN stays NaN.
template <cpu_backend B>
CASCADA_INLINE vec<B> tanh(vec<B> x) noexcept {
  using words       = integers<B, std::uint32_t>;
  const auto   one  = vec<B>::broadcast(1);
  const vec<B> size = abs(x), square = size * size;
  const vec<B> power = exp2(size * vec<B>::broadcast(minus_two_log2e));
  const vec<B> large = (one - power) / (one + power);
  // (tanh x - x) / x^3 on [0, 0.625], after Cephes: where large would lose digits.
  vec<B> series = vec<B>::broadcast(-5.70498872745e-3f);
  for (const float coefficient : {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f})
    series = multiply_add(series, square, vec<B>::broadcast(coefficient));
  const vec<B> small = multiply_add(series * square, size, size);
  // By bits, which of numbers without sign order as they do: -ffast-math takes NaN for any number.
  const auto bits = words::load(&size.value), sign = words::load(&x.value) & 0x8000'0000u;
  const auto result = (bits < 0x3f20'0000u ? words::load(&small.value) : words::load(&large.value)) | sign;
  vec<B>     value;
  __builtin_memcpy(&value.value, &result, sizeof result);
  return value;
}

#if defined(__AVX512F__)
/// 16 bfloat16 as floats.
template <cpu_backend B>
CASCADA_INLINE vec<B> widen_bfloat16(__m256i halves) noexcept {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
#endif

/// As many elements of a row as a vector has lanes, as floats.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE vec<B> load_floats(const Scalar* from) noexcept {
  if constexpr (std::same_as<Scalar, float>) {
    return vec<B>::load(from);
  } else {
    [[maybe_unused]] const void* const bytes = from;
#if defined(__AVX512F__)
    const __m256i halves = _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
    if constexpr (std::same_as<Scalar, float16>) return {_mm512_cvtph_ps(halves)};
    if constexpr (std::same_as<Scalar, bfloat16>) return widen_bfloat16<B>(halves);
#elif defined(__AVX2__)
    const __m128i halves = _mm_loadu_si128(static_cast<const __m128i*>(bytes));
#ifdef __F16C__
    if constexpr (std::same_as<Scalar, float16>) return {_mm256_cvtph_ps(halves)};
#endif
    if constexpr (std::same_as<Scalar, bfloat16>)
      return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
#endif
    float lanes[vec<B>::width];
    if constexpr (std::same_as<Scalar, bfloat16>) {
      using words      = integers<B, std::uint32_t>;
      const auto small = integers<B, std::uint16_t>::load(from);
      words::store(__builtin_convertvector(small, typename words::lanes) << 16,
                   reinterpret_cast<std::uint32_t*>(lanes));
      return vec<B>::load(lanes);
    }
    for (index_t lane = 0; lane < vec<B>::width; ++lane) lanes[lane] = to_float(from[lane]);
    return vec<B>::load(lanes);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel

#pragma GCC diagnostic pop
