#pragma once
// The vocabulary kernels speak: lanes, waves, barriers, matrix instructions, shared memory.
//
// A kernel is an aggregate of its parameters with `threads` (of a block), `waves_per_simd` (that there has to be room
// for), `shared`, grid() and operator()(Gpu&), passed by value. On the chip Gpu is `gfx942_lane` below, compiler
// builtins and nothing else. In the tests it is a simulator on the host.

#include <bit>
#include <concepts>
#include <cstdint>
#include <utility>

#include "cascada/hip/base/backend.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Rows that the matrix instructions take.
template <class Scalar>
concept matrix_scalar = std::same_as<Scalar, bfloat16> || std::same_as<Scalar, float16>;

using fragment = std::uint16_t __attribute__((vector_size(8)));   // a lane's part of a matrix operand: 4 elements
using vector8  = std::uint16_t __attribute__((vector_size(16)));  // the widest load: 8 elements
using floats_2 = float __attribute__((vector_size(8)));           // to an instruction
using sums_4   = float __attribute__((vector_size(16)));          // a lane's part of a 4 x 4 result
using sums_16  = float __attribute__((vector_size(64)));          // a lane's part of a 32 x 32 result

CASCADA_DEVICE CASCADA_INLINE fragment low(vector8 v) noexcept { return __builtin_shufflevector(v, v, 0, 1, 2, 3); }
CASCADA_DEVICE CASCADA_INLINE fragment high(vector8 v) noexcept { return __builtin_shufflevector(v, v, 4, 5, 6, 7); }

/// 32 x 32 result of mfma_32x32x8: entry v of a lane is row 8 (v / 4) + 4 (lane / 32) + v % 4, column lane % 32. Of A a
/// lane holds row lane % 32, of B column lane % 32, of both k = 4 (lane / 32) + 0..3.
CASCADA_DEVICE CASCADA_INLINE constexpr index_t row_32(index_t lane, index_t v) noexcept {
  return 8 * (v / 4) + 4 * (lane / 32) + v % 4;
}

/// Eight elements on a 16-byte boundary.
template <class Element>
CASCADA_DEVICE CASCADA_INLINE vector8 load_8(const Element* from) noexcept {
  static_assert(sizeof(Element) == 2);
  vector8 value;
  __builtin_memcpy(&value, __builtin_assume_aligned(from, 16), sizeof(value));
  return value;
}

/// Four elements on an 8-byte boundary.
template <class Element>
CASCADA_DEVICE CASCADA_INLINE fragment load_4(const Element* from) noexcept {
  static_assert(sizeof(Element) == 2);
  fragment value;
  __builtin_memcpy(&value, __builtin_assume_aligned(from, 8), sizeof(value));
  return value;
}

CASCADA_DEVICE CASCADA_INLINE void store_8(std::uint16_t* to, vector8 value) noexcept {
  __builtin_memcpy(__builtin_assume_aligned(to, 16), &value, sizeof(value));
}

#ifdef __HIP__

/// One lane of a wave on gfx942.
class gfx942_lane {
 public:
  CASCADA_DEVICE CASCADA_INLINE index_t thread() const {
    return static_cast<index_t>(__builtin_amdgcn_workitem_id_x());
  }
  CASCADA_DEVICE CASCADA_INLINE index_t block() const {
    return static_cast<index_t>(__builtin_amdgcn_workgroup_id_x());
  }
  CASCADA_DEVICE CASCADA_INLINE index_t lane() const { return thread() % gfx942::wave; }
  CASCADA_DEVICE CASCADA_INLINE index_t wave() const { return uniform(thread() / gfx942::wave); }

  /// All waves of the block arrive, and see what the others wrote.
  CASCADA_DEVICE CASCADA_INLINE void barrier() const {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  }

  /// Keeps the compiler from moving what stands before and behind it across: fewer registers are in use at a time.
  CASCADA_DEVICE CASCADA_INLINE void schedule_barrier() const { __builtin_amdgcn_sched_barrier(0); }

  /// Keeps the compiler from computing ahead of a loop what depends on `value`, and from widening it: 32 bits of an
  /// offset are part of a load.
  CASCADA_DEVICE CASCADA_INLINE void keep(std::uint32_t& value) const { asm("" : "+v"(value)); }

  /// Keeps `sums` in accumulation registers, which a kernel has with fewer than two waves to a SIMD.
  CASCADA_DEVICE CASCADA_INLINE void settle(sums_16& sums) const { asm("" : "+a"(sums)); }

  // Below, all lanes of the wave take part.

  /// The value of lane `source`, which may differ between lanes.
  CASCADA_DEVICE CASCADA_INLINE float shuffle(float value, index_t source) const {
    return std::bit_cast<float>(__builtin_amdgcn_ds_bpermute(source * 4, std::bit_cast<int>(value)));
  }
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t shuffle(std::uint32_t value, index_t source) const {
    return static_cast<std::uint32_t>(__builtin_amdgcn_ds_bpermute(source * 4, static_cast<int>(value)));
  }

  /// The value of lane `source`, which is the same in all lanes.
  CASCADA_DEVICE CASCADA_INLINE index_t read_lane(index_t value, index_t source) const {
    return __builtin_amdgcn_readlane(value, source);
  }
  CASCADA_DEVICE CASCADA_INLINE std::uint64_t read_lane(std::uint64_t value, index_t source) const {
    const auto half = [&](std::uint64_t bits) {
      return static_cast<std::uint32_t>(__builtin_amdgcn_readlane(static_cast<int>(bits), source));
    };
    return half(value) | std::uint64_t{half(value >> 32)} << 32;
  }

  /// A value that is the same in all lanes, told to the compiler.
  CASCADA_DEVICE CASCADA_INLINE index_t uniform(index_t value) const { return __builtin_amdgcn_readfirstlane(value); }

  CASCADA_DEVICE CASCADA_INLINE std::uint64_t ballot(bool vote) const { return __builtin_amdgcn_ballot_w64(vote); }

  /// c + A B in one instruction; operands and result as row_32 says.
  template <matrix_scalar Scalar>
  CASCADA_DEVICE CASCADA_INLINE sums_16 mfma_32x32x8(fragment a, fragment b, sums_16 c) const {
    if constexpr (std::same_as<Scalar, bfloat16>)
      return __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(std::bit_cast<bits_4>(a), std::bit_cast<bits_4>(b), c, 0, 0, 0);
    else
      return __builtin_amdgcn_mfma_f32_32x32x8f16(std::bit_cast<half_4>(a), std::bit_cast<half_4>(b), c, 0, 0, 0);
  }

  /// Sixteen results of 4 x 4, one for each four lanes: entry v of a lane is row v, column lane % 4. Of A a lane holds
  /// row lane % 4, of B column lane % 4, of both k = 0..3.
  template <matrix_scalar Scalar>
  CASCADA_DEVICE CASCADA_INLINE sums_4 mfma_4x4x4(fragment a, fragment b, sums_4 c) const {
    if constexpr (std::same_as<Scalar, bfloat16>)
      return __builtin_amdgcn_mfma_f32_4x4x4bf16_1k(std::bit_cast<bits_4>(a), std::bit_cast<bits_4>(b), c, 0, 0, 0);
    else
      return __builtin_amdgcn_mfma_f32_4x4x4f16(std::bit_cast<half_4>(a), std::bit_cast<half_4>(b), c, 0, 0, 0);
  }

  // Below, each lane is on its own.

  /// min(x, high), for x that are not negative; NaN may become any number between.
  CASCADA_DEVICE CASCADA_INLINE float clamp(float x, float high) const {
    return __builtin_amdgcn_fmed3f(x, 0.0f, high);
  }

  /// a x b + c, element by element, rounded once.
  template <class Values>
  CASCADA_DEVICE CASCADA_INLINE Values multiply_add(Values a, Values b, Values c) const {
    return __builtin_elementwise_fma(a, b, c);
  }
  /// Four floats as Scalars, towards zero.
  template <matrix_scalar Scalar>
  CASCADA_DEVICE CASCADA_INLINE fragment cut_off(float a, float b, float c, float d) const {
    if constexpr (std::same_as<Scalar, bfloat16>) {
      const auto high = [](float x) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16); };
      return fragment{high(a), high(b), high(c), high(d)};
    } else {
      return std::bit_cast<fragment>(halves_of_4{__builtin_amdgcn_cvt_pkrtz(a, b), __builtin_amdgcn_cvt_pkrtz(c, d)});
    }
  }
  /// 1 / x within an ulp, for x that are normal.
  CASCADA_DEVICE CASCADA_INLINE float reciprocal(float x) const { return __builtin_amdgcn_rcpf(x); }
  CASCADA_DEVICE CASCADA_INLINE float exp2(float x) const { return __builtin_amdgcn_exp2f(x); }
  CASCADA_DEVICE CASCADA_INLINE float log2(float x) const { return __builtin_amdgcn_logf(x); }

  /// Integers only: their sums do not depend on the order.
  template <std::integral Value>
  CASCADA_DEVICE CASCADA_INLINE void atomic_add(Value* to, Value value) const {
    __hip_atomic_fetch_add(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  }

  /// The block's shared memory, `lds` in kernels; its contents are undefined.
  template <class Shared>
  CASCADA_DEVICE CASCADA_INLINE Shared& shared() const {
    static_assert(sizeof(Shared) <= gfx942::lds_bytes, "a block has 64 KiB of shared memory");
    alignas(16) __attribute__((shared)) unsigned char memory[sizeof(Shared)];  // members may have initialisers
    return *reinterpret_cast<Shared*>(memory);
  }

 private:
  using bits_4 = short __attribute__((vector_size(8)));
  using half_2 = __fp16 __attribute__((vector_size(4)));
  using half_4 = _Float16 __attribute__((vector_size(8)));
  struct halves_of_4 {
    half_2 low, high;
  };
};

/// The one device entry point. Kernel::waves_per_simd caps the registers; with at least two, results of the matrix
/// units stay in the registers that other instructions read.
template <class Kernel>
__attribute__((global, amdgpu_flat_work_group_size(Kernel::threads, Kernel::threads),
               amdgpu_waves_per_eu(Kernel::waves_per_simd, 8))) void
entry(Kernel kernel) {
  gfx942_lane gpu;
  kernel(gpu);
}

#endif

/// A pointer to device memory that is kept in shared memory: the compiler would not know where what it loads points.
template <class Value>
class device_pointer {
 public:
  CASCADA_DEVICE CASCADA_INLINE void   operator=(Value* to) noexcept { to_ = (pointer)to; }
  CASCADA_DEVICE CASCADA_INLINE Value* get() const noexcept { return (Value*)to_; }

 private:
#ifdef __HIP_DEVICE_COMPILE__
  using pointer = __attribute__((address_space(1))) Value*;
#else
  using pointer = Value*;
#endif
  pointer to_;
};

/// The sum of what all lanes of the wave have, in every lane. In which order floats are added is not specified.
template <class Gpu, class Value>
CASCADA_DEVICE CASCADA_INLINE Value sum_of_wave(const Gpu& gpu, Value value) {
#pragma GCC                         unroll 6
  for (index_t step = 1; step < gfx942::wave; step *= 2) value += gpu.shuffle(value, gpu.lane() ^ step);
  return value;
}

/// Bits below `count`, of 32.
CASCADA_DEVICE CASCADA_INLINE constexpr std::uint32_t bits_below(index_t count) {
  return count <= 0 ? 0 : ~0u >> (count < 32 ? 32 - count : 0);
}

/// Bits that a lane has by entries of its sums, of 32 rows, by row.
template <class Gpu>
CASCADA_DEVICE CASCADA_INLINE std::uint32_t bits_of_rows(const Gpu& gpu, std::uint32_t entries) {
  std::uint32_t rows = 0;
#pragma GCC unroll 4
  for (index_t v = 0; v < 16; v += 4) rows |= (entries >> v & 15u) << row_32(0, v);
  return rows << row_32(gpu.lane(), 0);
}

/// Of kernels that share nothing.
struct no_shared {};

}  // namespace cascada::inline CASCADA_ABI::hip
