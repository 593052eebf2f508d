#pragma once
// What this core can do at most, measured: multiply-adds in registers, and streaming through memory.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cascada/cpu/base/amx.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace bench {

using cascada::index_t;
namespace kernel = cascada::kernel;

/// Keeps a value that nothing reads.
template <class Value>
void keep(const Value& value) noexcept {
  asm volatile("" : : "m"(value) : "memory");
}

/// Runs `steps` rounds of independent multiply-adds in registers; returns the FLOP done. Twelve chains: enough for a
/// latency of four cycles and three a cycle, and they fit into sixteen registers with both operands.
template <cascada::cpu_backend B = cascada::default_backend>
double fma_loop(std::int64_t steps) noexcept {
  constexpr index_t chains = 12;
  kernel::vec<B>    sum[chains];
  for (index_t c = 0; c < chains; ++c) sum[c] = kernel::vec<B>::broadcast(static_cast<float>(c));
  const auto a = kernel::vec<B>::broadcast(0.5f), b = kernel::vec<B>::broadcast(1.0f);
  for (std::int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 12
    for (index_t c = 0; c < chains; ++c) sum[c] = kernel::multiply_add(sum[c], a, b);
  keep(sum);
  return 2.0 * chains * kernel::vec<B>::width * static_cast<double>(steps);
}

/// Rounds of four tile products, as many as there are accumulators in a kernel's 2 x 2 tiles.
inline double tile_loop([[maybe_unused]] std::int64_t steps) noexcept {
#ifdef __AMX_BF16__
  const kernel::tile_scope<cascada::default_backend> scope;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (std::int64_t s = 0; s < steps; ++s) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
#endif
  return 4.0 * 2 * 16 * 32 * 16 * static_cast<double>(steps);
}

/// The same for products of bfloat16 pairs summed in float, by the instruction that the kernels use; 0 where the target
/// has none.
inline double bf16_loop([[maybe_unused]] std::int64_t steps) noexcept {
  if (kernel::tiles_permitted<cascada::default_backend>()) return tile_loop(steps);
#ifdef __AVX512BF16__
  constexpr index_t chains = 12;
  __m512            sum[chains];
  for (auto& s : sum) s = _mm512_setzero_ps();
  __m512i bits = _mm512_set1_epi32(0x3f003f00);  // pairs of 0.5
  asm("" : "+v"(bits));
  const auto a = reinterpret_cast<__m512bh>(bits);
  for (std::int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 12
    for (index_t c = 0; c < chains; ++c) sum[c] = _mm512_dpbf16_ps(sum[c], a, a);
  keep(sum);
  return 4.0 * chains * 16 * static_cast<double>(steps);
#else
  return 0;
#endif
}

/// c = a + s b over arrays far larger than the caches; returns the bytes read and written, not counting that a store
/// may read its line first.
class triad {
 public:
  double operator()() noexcept {
    const float* a = a_.data();
    const float* b = b_.data();
    float*       c = c_.data();
    for (std::size_t i = 0; i < count; ++i) c[i] = a[i] + 0.5f * b[i];
    keep(c[0]);
    return 3.0 * count * sizeof(float);
  }

 private:
  static constexpr std::size_t count = std::size_t{1} << 25;
  std::vector<float>           a_ = std::vector<float>(count, 1.0f), b_ = a_, c_ = a_;
};

/// Reads more than caches hold, as decoding reads keys and values. Returns bytes.
class reading {
 public:
  double operator()() noexcept {
    float sum[64] = {};
    for (std::size_t i = 0; i < count; i += 64)
      for (std::size_t lane = 0; lane < 64; ++lane) sum[lane] += a_[i + lane];
    for (const float lane : sum) keep(lane);
    return static_cast<double>(count * sizeof(float));
  }

 private:
  static constexpr std::size_t count = std::size_t{1} << 26;
  std::vector<float>           a_    = std::vector<float>(count, 1.0f);
};

}  // namespace bench
