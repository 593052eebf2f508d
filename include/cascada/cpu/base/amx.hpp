#pragma once
// Intel's matrix tiles (AMX-BF16): whether a process may use them, their shape on a thread.
//
// A tile instruction multiplies 16 rows of 32 bfloat16 with 32 x 16: 8 times what a vector instruction does. The kernel
// of the operating system gives the registers to a process that asks. Tiles hold nothing between two calls of the
// library: who else uses them configures them anew, as is usual.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/base/simd.hpp"  // the intrinsics, without the false alarms of g++ 12

#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cascada::inline CASCADA_ABI::kernel {

/// Whether tiles may be used here. Asks once per process.
template <cpu_backend B>
bool tiles_permitted() noexcept {
#if defined(__AMX_BF16__) && defined(__linux__)
  constexpr long    request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool permitted =
      contains(B::instructions, isa::amx_bf16) && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return permitted;
#else
  return false;
#endif
}

/// Tiles for products of `product_rows` rows, 1 to 32, on this thread, as long as the object lives: an accumulator
/// tile holds 16 rows of 16 floats. Wants tiles_permitted().
template <cpu_backend B>
class tile_scope {
 public:
  static constexpr index_t rows = 16, pairs = 16, columns = 16;  // a pair: two bfloat16, a 32-bit element of a tile

  CASCADA_INLINE explicit tile_scope(index_t product_rows = 2 * rows) noexcept { configure(product_rows); }

  CASCADA_INLINE ~tile_scope() {
#ifdef __AMX_BF16__
    _tile_release();
#endif
  }

  tile_scope(const tile_scope&)            = delete;
  tile_scope& operator=(const tile_scope&) = delete;

  /// Accumulators 0 and 1 and operand 4 have the first 16 rows, accumulators 2 and 3 and operand 5 the others. What
  /// the tiles held is gone.
  CASCADA_INLINE void configure([[maybe_unused]] index_t product_rows) noexcept {
#ifdef __AMX_BF16__
    struct alignas(64) configuration {
      std::uint8_t  palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t  row_count[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    configuration all    = {};
    const auto    first  = static_cast<std::uint8_t>(product_rows < rows ? product_rows : rows);
    const auto    second = static_cast<std::uint8_t>(product_rows > rows ? product_rows - rows : rows);
    all.row_count[0] = all.row_count[1] = all.row_count[4] = first;
    all.row_count[2] = all.row_count[3] = all.row_count[5] = second;
    asm volatile("" : : "m"(all));  // g++ 12's intrinsic says that it reads a pointer, not the 64 bytes
    _tile_loadconfig(&all);
#endif
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel
