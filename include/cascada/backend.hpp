#pragma once
// Which kernels run, and where: a tag type with a value.
//
// The tag is a template parameter down to the last kernel. It spells out the instruction sets of the translation unit,
// so objects compiled with different -m flags instantiate different symbols and may be linked together.

#include <concepts>
#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/executor.hpp"

namespace cascada {

/// One bit for each compiler setting that changes the code of a kernel.
enum class isa : std::uint32_t {
  portable    = 0,
  sse3        = 1u << 0,
  ssse3       = 1u << 1,
  sse41       = 1u << 2,
  sse42       = 1u << 3,
  popcnt      = 1u << 4,
  avx         = 1u << 5,
  f16c        = 1u << 6,
  fma         = 1u << 7,
  avx2        = 1u << 8,
  bmi         = 1u << 9,
  bmi2        = 1u << 10,
  avx512f     = 1u << 11,
  avx512bw    = 1u << 12,
  avx512dq    = 1u << 13,
  avx512vl    = 1u << 14,
  avx512_bf16 = 1u << 15,
  avx512_vnni = 1u << 16,
  neon        = 1u << 17,
  sve         = 1u << 18,
  amx_bf16    = 1u << 19,
  fast_math   = 1u << 31,
};

CASCADA_INLINE constexpr isa operator|(isa a, isa b) noexcept {
  return static_cast<isa>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

/// True where `set` has every bit of `part`.
CASCADA_INLINE constexpr bool contains(isa set, isa part) noexcept { return (set | part) == set; }

/// What this translation unit is compiled for. Internal linkage: its value differs between translation units.
static constexpr isa compiled_isa = isa::portable
#ifdef __SSE3__
    | isa::sse3
#endif
#ifdef __SSSE3__
    | isa::ssse3
#endif
#ifdef __SSE4_1__
    | isa::sse41
#endif
#ifdef __SSE4_2__
    | isa::sse42
#endif
#ifdef __POPCNT__
    | isa::popcnt
#endif
#ifdef __AVX__
    | isa::avx
#endif
#ifdef __F16C__
    | isa::f16c
#endif
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_FEATURE_FMA)
    | isa::fma
#endif
#ifdef __AVX2__
    | isa::avx2
#endif
#ifdef __BMI__
    | isa::bmi
#endif
#ifdef __BMI2__
    | isa::bmi2
#endif
#ifdef __AVX512F__
    | isa::avx512f
#endif
#ifdef __AVX512BW__
    | isa::avx512bw
#endif
#ifdef __AVX512DQ__
    | isa::avx512dq
#endif
#ifdef __AVX512VL__
    | isa::avx512vl
#endif
#ifdef __AVX512BF16__
    | isa::avx512_bf16
#endif
#ifdef __AVX512VNNI__
    | isa::avx512_vnni
#endif
#ifdef __AMX_BF16__
    | isa::amx_bf16
#endif
#ifdef __ARM_NEON
    | isa::neon
#endif
#ifdef __ARM_FEATURE_SVE
    | isa::sve
#endif
#ifdef __FAST_MATH__
    | isa::fast_math
#endif
    ;

/// The CPU: kernels for `Isa`, run by `Executor` (a pool of threads by default; see executor.hpp).
template <isa Isa = compiled_isa, executor Executor = pool_executor<Isa>>
struct cpu {
  static constexpr isa instructions = Isa;
  // One correctly rounded fused multiply-add per element, in vectors. Without it std::fma does the exact sums.
  static constexpr bool has_fma = contains(Isa, isa::fma);

  [[no_unique_address]] Executor executor{};
};

namespace detail {
template <class>
inline constexpr bool is_cpu = false;
template <isa Isa, class Executor>
inline constexpr bool is_cpu<cpu<Isa, Executor>> = true;
}  // namespace detail

template <class B>
concept cpu_backend = detail::is_cpu<B>;

/// AMD's gfx942 (hip/backend.hpp): a type that says so by its `architecture`.
struct gfx942;
template <class B>
concept gfx942_backend = std::same_as<typename B::architecture, gfx942>;

template <class B>
concept backend = cpu_backend<B> || gfx942_backend<B>;

/// Always a CPU: an accelerator is named by the caller, because the meaning of a pointer must not change with the
/// compiler.
using default_backend = cpu<>;

}  // namespace cascada
