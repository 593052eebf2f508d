#pragma once
// AMD MI300X, by its architecture gfx942: facts of the chip, and what the host asks of a stream.
//
// Named by the caller, never a default. This header needs no HIP: hip/base/runtime.hpp, which does, defines what is
// declared here.

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI {

/// Sources: AMD Instinct MI300X data sheet; AMD Instinct MI300 ISA reference; AMD's matrix instruction calculator.
struct gfx942 {
  static constexpr index_t     wave             = 64;
  static constexpr index_t     compute_units    = 304;
  static constexpr index_t     simds            = 4;          // of a compute unit
  static constexpr index_t     vector_registers = 512;        // of a lane, when one wave has its SIMD to itself
  static constexpr std::size_t lds_bytes        = 64 * 1024;  // of a compute unit, and the most a block may have
};

/// Where kernels run: `launch` puts one on the stream, memory is ordered by the stream, `upload` and `download` wait.
template <class B>
concept gfx942_stream =
    gfx942_backend<B> && requires(const B where, void* memory, const void* from, std::size_t bytes) {
      { where.allocate(bytes) } -> std::same_as<void*>;  // null on failure
      { where.release(memory) } -> std::same_as<void>;
      { where.clear(memory, bytes) } -> std::same_as<status>;
      { where.copy(memory, from, bytes) } -> std::same_as<status>;      // device to device
      { where.upload(memory, from, bytes) } -> std::same_as<status>;    // from the host
      { where.download(memory, from, bytes) } -> std::same_as<status>;  // to the host
    };

/// A HIP stream on a gfx942 device: a handle, for any thread. `stream` is a hipStream_t; null is the default stream.
struct hip_gfx942 {
  using architecture = gfx942;

  void* stream = nullptr;

  /// Puts `kernel` on the stream: its own grid() blocks of Kernel::threads, itself the only argument.
  template <class Kernel>
  [[nodiscard]] status launch(const Kernel& kernel) const noexcept;

  [[nodiscard]] void*  allocate(std::size_t bytes) const noexcept;
  void                 release(void* memory) const noexcept;
  [[nodiscard]] status clear(void* memory, std::size_t bytes) const noexcept;
  [[nodiscard]] status copy(void* to, const void* from, std::size_t bytes) const noexcept;
  [[nodiscard]] status upload(void* to, const void* from, std::size_t bytes) const noexcept;
  [[nodiscard]] status download(void* to, const void* from, std::size_t bytes) const noexcept;
};

}  // namespace cascada::inline CASCADA_ABI
