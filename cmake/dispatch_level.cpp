// The kernels of one level (cascada/dispatch.hpp). Compiled for CASCADA_DISPATCH_LEVEL, with rows of the types
// CASCADA_DISPATCH_ROWS. Of the object that comes of it, nothing but makers_of<..> may stay visible to the linker,
// which would else take functions of the standard library from here for the whole program (dispatch.cmake).
#include <cstdint>

#include "cascada/dispatch/kernels.hpp"

namespace cascada::inline CASCADA_ABI::dispatch::detail {

using enum level;

/// The instructions that kernels of a level find at compile time, by its flags.
constexpr isa instructions_of(level of) {
  switch (of) {
    case x86_64: return isa::portable;
    case x86_64_v3:
    case armv8_a: return isa::fma;
    case x86_64_v4: return isa::fma | isa::avx512f | isa::avx512dq;
    case avx512_bf16: return instructions_of(x86_64_v4) | isa::avx512_bf16;
    case amx_bf16: return instructions_of(avx512_bf16) | isa::amx_bf16;
  }
  return isa::portable;
}
static_assert(static_cast<std::uint32_t>(compiled_isa) ==
                  static_cast<std::uint32_t>(instructions_of(CASCADA_DISPATCH_LEVEL)),
              "the compiler's flags are not those of the level");

template <>
const makers& makers_of<CASCADA_DISPATCH_LEVEL>() noexcept {
  static constexpr makers all = all_makers<cascada::cpu<compiled_isa, any_executor>, CASCADA_DISPATCH_ROWS>();
  return all;
}

}  // namespace cascada::inline CASCADA_ABI::dispatch::detail
