#pragma once
// Intel's matrix tiles (AMX-BF16): whether a process may use them, and their shape on a thread.
//
// A tile instruction multiplies 16 rows of 32 bfloat16 with 32 x 16: 8 times what a vector instruction does. The kernel
// of the operating system gives the registers to a process that asks. Tiles hold nothing between two calls of the
// library: who else uses them configures them anew, as is usual.

#include <cstdint>

#include "cascada/backend.hpp"

#ifdef __AMX_BF16__
#include <immintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace cascada::kernel {

/// Whether tiles may be used here. Asks once per process.
template <cpu_backend B>
bool tiles_permitted() noexcept {
#if defined(__AMX_BF16__) && defined(__linux__)
  constexpr long    request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool permitted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return permitted;
#else
  return false;
#endif
}

/// Eight tiles of 16 rows of 64 bytes, on this thread, as long as the object lives. Wants tiles_permitted().
template <cpu_backend B>
class tile_scope {
 public:
  static constexpr index_t rows = 16, pairs = 16, columns = 16;  // a pair: two bfloat16, a 32-bit element of a tile

  CASCADA_INLINE tile_scope() noexcept {
#ifdef __AMX_BF16__
    struct alignas(64) configuration {
      std::uint8_t  palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t  row_count[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const configuration all = {};
    asm volatile("" : : "m"(all));  // g++ 12's intrinsic says that it reads a pointer, not the 64 bytes
    _tile_loadconfig(&all);
#endif
  }

  CASCADA_INLINE ~tile_scope() {
#ifdef __AMX_BF16__
    _tile_release();
#endif
  }

  tile_scope(const tile_scope&)            = delete;
  tile_scope& operator=(const tile_scope&) = delete;
};

}  // namespace cascada::kernel
