#pragma once
// Levels: the instructions that dispatch has kernels for, and which of them this CPU and this process have.

#include <cstdint>
#include <span>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::dispatch {

/// What kernels are compiled for. Those of one kind of CPU ascend: each needs all that the one before needs.
enum class level : std::uint8_t {
  x86_64,       // SSE2: every x86-64 CPU
  x86_64_v3,    // AVX2, FMA
  x86_64_v4,    // AVX-512: F, BW, CD, DQ, VL
  avx512_bf16,  // products of bfloat16
  amx_bf16,     // matrix tiles of bfloat16, which the operating system gives to a process that asks
  armv8_a,      // NEON: every AArch64 CPU
};

/// As CMake's cascada_add_dispatch() calls it.
[[nodiscard]] CASCADA_INLINE constexpr const char* name(level of) noexcept {
  switch (of) {
    case level::x86_64: return "x86-64";
    case level::x86_64_v3: return "x86-64-v3";
    case level::x86_64_v4: return "x86-64-v4";
    case level::avx512_bf16: return "avx512-bf16";
    case level::amx_bf16: return "amx-bf16";
    case level::armv8_a: return "armv8-a";
  }
  return "unknown level";
}

/// Those that the program has kernels for, ascending.
[[nodiscard]] std::span<const level> levels() noexcept;

/// Whether this CPU and this process have all that a level needs, be there kernels for it or not. For amx_bf16, the
/// process asks for the tiles (arch_prctl) if the CPU has them.
[[nodiscard]] bool runs(level wanted) noexcept;

/// The last of levels() that runs here; the first if none does, and calls are then refused. Chosen once, when it is
/// first asked for.
[[nodiscard]] level best() noexcept;

}  // namespace cascada::inline CASCADA_ABI::dispatch
