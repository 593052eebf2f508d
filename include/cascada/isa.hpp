#pragma once
// What a translation unit is compiled for, as one value: instruction sets, and every other setting that changes code.

#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/fnv1a.hpp"

namespace cascada::inline CASCADA_ABI {

/// The lower half has a bit for each instruction set that a kernel asks for. The upper half tells all settings apart
/// (`settings` below), so that objects compiled with different ones share no code: they have different values.
enum class isa : std::uint64_t {
  portable    = 0,
  fma         = 1u << 0,
  avx512f     = 1u << 1,
  avx512dq    = 1u << 2,
  avx512_bf16 = 1u << 3,
  amx_bf16    = 1u << 4,
};

/// Every bit of either.
CASCADA_INLINE constexpr isa operator|(isa a, isa b) noexcept {
  return static_cast<isa>(static_cast<std::uint64_t>(a) | static_cast<std::uint64_t>(b));
}

/// True where `set` has every bit of `part`.
CASCADA_INLINE constexpr bool contains(isa set, isa part) noexcept { return (set | part) == set; }

namespace detail {

// The values of macros, as text; one that is not defined stands for itself.
#define CASCADA_TEXT_OF_VALUES(...) #__VA_ARGS__
#define CASCADA_TEXT_OF(...) CASCADA_TEXT_OF_VALUES(__VA_ARGS__)

/// The macros by which compilers tell instruction sets, from their own lists of options (a script of the project's
/// tests writes them), and those of floating-point arithmetic, exceptions, and the width of Eigen's packets on SVE. For
/// x86-64 and AArch64; elsewhere all objects of a program have to be compiled for the same target.
///
/// Left out are what leaves no macro, or only that of a processor's name (tuning, -ffp-contract): such objects may
/// share code, because each runs wherever the other does. And unoptimised objects (-O0) share Eigen's functions on
/// registers of one type, padd and the like.
// clang-format off
static constexpr char settings[] = CASCADA_TEXT_OF(
    __3dNOW_A__ __3dNOW__ __ABM__ __ADX__ __AES__ __AMXBF16__ __AMXINT8__ __AMXTILE__ __AMX_AVX512__ __AMX_BF16__
    __AMX_COMPLEX__ __AMX_FP16__ __AMX_FP8__ __AMX_INT8__ __AMX_MOVRS__ __AMX_TF32__ __AMX_TILE__ __AMX_TRANSPOSE__
    __APX_F__ __ARM_ARCH __ARM_BF16_FORMAT_ALTERNATIVE __ARM_FEATURE_AES __ARM_FEATURE_ATOMICS __ARM_FEATURE_BF16
    __ARM_FEATURE_BF16_SCALAR_ARITHMETIC __ARM_FEATURE_BF16_VECTOR_ARITHMETIC __ARM_FEATURE_BTI __ARM_FEATURE_COMPLEX
    __ARM_FEATURE_CRC32 __ARM_FEATURE_CRYPTO __ARM_FEATURE_CSSC __ARM_FEATURE_DOTPROD __ARM_FEATURE_FAMINMAX
    __ARM_FEATURE_FMA __ARM_FEATURE_FP16_FML __ARM_FEATURE_FP16_SCALAR_ARITHMETIC __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
    __ARM_FEATURE_FP8 __ARM_FEATURE_FP8DOT2 __ARM_FEATURE_FP8DOT4 __ARM_FEATURE_FP8FMA __ARM_FEATURE_FRINT
    __ARM_FEATURE_GCS __ARM_FEATURE_JCVT __ARM_FEATURE_LOCALLY_STREAMING __ARM_FEATURE_LS64 __ARM_FEATURE_LSE128
    __ARM_FEATURE_LUT __ARM_FEATURE_MATMUL_INT8 __ARM_FEATURE_MEMORY_TAGGING __ARM_FEATURE_MOPS
    __ARM_FEATURE_NUMERIC_MAXMIN __ARM_FEATURE_PAUTH __ARM_FEATURE_QRDMX __ARM_FEATURE_RCPC __ARM_FEATURE_RCPC3
    __ARM_FEATURE_RNG __ARM_FEATURE_SHA2 __ARM_FEATURE_SHA3 __ARM_FEATURE_SHA512 __ARM_FEATURE_SM3 __ARM_FEATURE_SM4
    __ARM_FEATURE_SME __ARM_FEATURE_SME2 __ARM_FEATURE_SME2p1 __ARM_FEATURE_SME_F64F64 __ARM_FEATURE_SME_I16I64
    __ARM_FEATURE_SSVE_FP8FMA __ARM_FEATURE_SVE __ARM_FEATURE_SVE2 __ARM_FEATURE_SVE2_AES __ARM_FEATURE_SVE2_BITPERM
    __ARM_FEATURE_SVE2_SHA3 __ARM_FEATURE_SVE2_SM4 __ARM_FEATURE_SVE2p1 __ARM_FEATURE_SVE_B16B16 __ARM_FEATURE_SVE_BF16
    __ARM_FEATURE_SVE_BITS __ARM_FEATURE_SVE_MATMUL_FP32 __ARM_FEATURE_SVE_MATMUL_FP64 __ARM_FEATURE_SVE_MATMUL_INT8
    __ARM_FEATURE_SVE_VECTOR_OPERATORS __ARM_FEATURE_SYSREG128 __ARM_FEATURE_THE __ARM_FEATURE_TME
    __ARM_FEATURE_UNALIGNED __ARM_FP __ARM_FP_FAST __ARM_NEON __ARM_NEON_FP __ARM_NEON_SVE_BRIDGE __AVX10_1_256__
    __AVX10_1_512__ __AVX10_1__ __AVX10_2_256__ __AVX10_2_512__ __AVX10_2__ __AVX2__ __AVX5124FMAPS__ __AVX5124VNNIW__
    __AVX512BF16__ __AVX512BITALG__ __AVX512BW__ __AVX512CD__ __AVX512DQ__ __AVX512ER__ __AVX512FP16__ __AVX512F__
    __AVX512IFMA__ __AVX512PF__ __AVX512VBMI2__ __AVX512VBMI__ __AVX512VL__ __AVX512VNNI__ __AVX512VP2INTERSECT__
    __AVX512VPOPCNTDQ__ __AVXIFMA__ __AVXNECONVERT__ __AVXVNNIINT16__ __AVXVNNIINT8__ __AVXVNNI__ __AVX__ __BMI2__
    __BMI__ __CCMP__ __CF__ __CLDEMOTE__ __CLFLUSHOPT__ __CLWB__ __CLZERO__ __CMPCCXADD__ __CRC32__ __EGPR__ __ENQCMD__
    __EVEX256__ __EVEX512__ __F16C__ __FMA4__ __FMA__ __FP_FAST_FMA __FP_FAST_FMAF __FP_FAST_FMAF32 __FP_FAST_FMAF32x
    __FP_FAST_FMAF64 __FSGSBASE__ __FXSR__ __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16 __GFNI__ __HRESET__ __INVPCID__ __KL__
    __LAHF_SAHF__ __LWP__ __LZCNT__ __MMX__ __MOVBE__ __MOVDIR64B__ __MOVDIRI__ __MOVRS__ __MWAITX__ __NDD__ __NF__
    __PCLMUL__ __PCONFIG__ __PKU__ __POPCNT__ __PPX__ __PREFETCHI__ __PREFETCHWT1__ __PRFCHW__ __PTWRITE__ __PUSH2POP2__
    __RAOINT__ __RDPID__ __RDPRU__ __RDRND__ __RDSEED__ __RTM__ __SERIALIZE__ __SGX__ __SHA512__ __SHA__ __SHSTK__
    __SM3__ __SM4__ __SSE2_MATH__ __SSE2__ __SSE3__ __SSE4A__ __SSE4_1__ __SSE4_2__ __SSE_MATH__ __SSE__ __SSSE3__
    __TBM__ __TSXLDTRK__ __USERMSR__ __VAES__ __VPCLMULQDQ__ __WAITPKG__ __WBNOINVD__ __WIDEKL__ __XOP__ __XSAVEC__
    __XSAVEOPT__ __XSAVES__ __XSAVE__ __ZU__

    __FAST_MATH__ __FINITE_MATH_ONLY__ __RECIPROCAL_MATH__ __ASSOCIATIVE_MATH__ __NO_SIGNED_ZEROS__ __NO_MATH_ERRNO__
    __NO_TRAPPING_MATH__ __ROUNDING_MATH__ __SUPPORT_SNAN__ __EXCEPTIONS EIGEN_ARM64_USE_SVE);
// clang-format on

#undef CASCADA_TEXT_OF
#undef CASCADA_TEXT_OF_VALUES

/// FNV-1a of a text, folded to the upper half of an isa.
consteval isa upper_half(const char* text) noexcept {
  std::uint64_t hash = fnv1a_of_nothing;
  for (; *text; ++text) hash = fnv1a(hash, static_cast<unsigned char>(*text));
  return static_cast<isa>((hash ^ hash >> 32) << 32);
}

}  // namespace detail

/// What this translation unit is compiled for. Internal linkage: its value differs between translation units.
static constexpr isa compiled_isa = detail::upper_half(detail::settings)
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_FEATURE_FMA)
                                    | isa::fma
#endif
#ifdef __AVX512F__
                                    | isa::avx512f
#endif
#ifdef __AVX512DQ__
                                    | isa::avx512dq
#endif
#ifdef __AVX512BF16__
                                    | isa::avx512_bf16
#endif
#ifdef __AMX_BF16__
                                    | isa::amx_bf16
#endif
    ;

}  // namespace cascada::inline CASCADA_ABI
