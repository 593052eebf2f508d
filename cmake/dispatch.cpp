// What cascada/dispatch.hpp knows of the program, CASCADA_DISPATCH_LEVELS in ascending order, and of the CPU and the
// process. Compiled for the least of the levels.
#include "cascada/dispatch.hpp"

#include <algorithm>
#include <cstdint>

#ifdef __x86_64__
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace cascada::inline CASCADA_ABI::dispatch {

namespace {

using enum level;

/// The levels of the program, and their kernels.
template <level... Levels>
struct program_of {
  static constexpr level levels[] = {Levels...};

  static const detail::makers* find(level wanted) noexcept {
    const detail::makers* found = nullptr;
    ((wanted == Levels ? void(found = &detail::makers_of<Levels>()) : void()), ...);
    return found;
  }
};
using program = program_of<CASCADA_DISPATCH_LEVELS>;

#ifdef __x86_64__

constexpr std::uint32_t bits(auto... of) noexcept { return ((std::uint32_t{1} << of) | ...); }

/// Words of the instruction cpuid (Intel SDM, volume 2A) that tell what a CPU has, and the parts of registers that the
/// operating system saves (XCR0).
struct features {
  std::uint32_t leaf_1_c     = 0;
  std::uint32_t leaf_7_b     = 0;
  std::uint32_t leaf_7_d     = 0;
  std::uint32_t leaf_7_1_a   = 0;
  std::uint32_t extended_1_c = 0;
  std::uint32_t saved        = 0;
};

// What levels need, beyond the level before.
constexpr features v3_needs = {
    .leaf_1_c = bits(0, 9, 12, 13, 19, 20)   // SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2
                | bits(22, 23, 27, 28, 29),  // MOVBE, POPCNT, OSXSAVE, AVX, F16C
    .leaf_7_b     = bits(3, 5, 8),           // BMI1, AVX2, BMI2
    .extended_1_c = bits(0, 5),              // LAHF, LZCNT
    .saved        = bits(1, 2),              // xmm, ymm
};
constexpr features v4_needs = {
    .leaf_7_b = bits(16, 17, 28, 30, 31),  // AVX512F, DQ, CD, BW, VL
    .saved    = bits(5, 6, 7),             // masks, zmm
};
constexpr features bf16_needs = {.leaf_7_1_a = bits(5)};  // AVX512_BF16
constexpr features amx_needs  = {
     .leaf_7_d = bits(22, 24),  // AMX-BF16, AMX-TILE
     .saved    = bits(17, 18),  // configuration of tiles, tiles
};

features features_of_cpu() noexcept {
  features      has;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d)) has.leaf_1_c = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    has.leaf_7_b = b;
    has.leaf_7_d = d;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) has.leaf_7_1_a = a;
  }
  if (__get_cpuid(0x8000'0001u, &a, &b, &c, &d)) has.extended_1_c = c;
  if (has.leaf_1_c & bits(27)) asm("xgetbv" : "=a"(has.saved), "=d"(d) : "c"(0));
  return has;
}

constexpr bool covers(const features& has, const features& needs) noexcept {
  return (has.leaf_1_c & needs.leaf_1_c) == needs.leaf_1_c && (has.leaf_7_b & needs.leaf_7_b) == needs.leaf_7_b &&
         (has.leaf_7_d & needs.leaf_7_d) == needs.leaf_7_d && (has.leaf_7_1_a & needs.leaf_7_1_a) == needs.leaf_7_1_a &&
         (has.extended_1_c & needs.extended_1_c) == needs.extended_1_c && (has.saved & needs.saved) == needs.saved;
}

/// As kernel::tiles_permitted: asking again costs nothing.
bool may_use_tiles() noexcept {
#ifdef __linux__
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

#endif

}  // namespace

std::span<const level> levels() noexcept { return program::levels; }

bool runs(level wanted) noexcept {
#ifdef __x86_64__
  static const features here = features_of_cpu();
  const bool v3 = covers(here, v3_needs), v4 = v3 && covers(here, v4_needs), bf16 = v4 && covers(here, bf16_needs);
  switch (wanted) {
    case x86_64: return true;
    case x86_64_v3: return v3;
    case x86_64_v4: return v4;
    case avx512_bf16: return bf16;
    case amx_bf16: return bf16 && covers(here, amx_needs) && may_use_tiles();
    case armv8_a: return false;
  }
  return false;
#else
  return wanted == armv8_a;
#endif
}

level best() noexcept {
  static const level chosen = [] {
    level last = program::levels[0];
    for (const level of : program::levels)
      if (runs(of)) last = of;
    return last;
  }();
  return chosen;
}

any_executor shared_pool() {
  static const any_executor pool = pool_executor<level{}>{};
  return pool;
}

status detail::find(level wanted, const makers*& found) noexcept {
  const auto all = levels();
  if (std::find(all.begin(), all.end(), wanted) == all.end())
    return {status::unsupported, "the program has no kernels for where.instructions"};
  if (!runs(wanted)) return {status::unsupported, "where.instructions is more than this CPU or this process has"};
  found = program::find(wanted);
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::dispatch
