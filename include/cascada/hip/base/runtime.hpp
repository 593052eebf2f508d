#pragma once
// The HIP runtime behind hip_gfx942. For translation units that a HIP compiler reads (-x hip); empty for others.
//
// Include it first: clang's wrappers of standard headers want the macros of the runtime's. With Debian's
// libamdhip64 5.2 and clang: -D__HIP_PLATFORM_AMD__ -DEIGEN_NO_HIP -nogpulib -nogpuinc --offload-arch=gfx942.

#ifdef __HIP__

#include <cstdlib>  // clang's wrapper of <new> uses malloc before it is declared

#include <hip/hip_runtime_api.h>

#include "cascada/hip/base/device.hpp"

namespace cascada::inline CASCADA_ABI {

namespace hip {

CASCADA_INLINE status status_of(hipError_t error) noexcept {
  return error == hipSuccess ? status::ok : status::device_error;
}

CASCADA_INLINE hipStream_t stream_of(const hip_gfx942& where) noexcept {
  return static_cast<hipStream_t>(where.stream);
}

}  // namespace hip

/// What failed is in hipGetLastError().
template <class Kernel>
status hip_gfx942::launch(const Kernel& kernel) const noexcept {
  const index_t blocks = kernel.grid();
  if (blocks == 0) return status::ok;
  Kernel argument    = kernel;
  void*  arguments[] = {&argument};
  return hip::status_of(hipLaunchKernel(reinterpret_cast<const void*>(&hip::entry<Kernel>),
                                        dim3(static_cast<std::uint32_t>(blocks)), dim3(Kernel::threads), arguments, 0,
                                        hip::stream_of(*this)));
}

CASCADA_INLINE void* hip_gfx942::allocate(std::size_t bytes) const noexcept {
  void* memory = nullptr;
  return hipMallocAsync(&memory, bytes, hip::stream_of(*this)) == hipSuccess ? memory : nullptr;
}

CASCADA_INLINE void hip_gfx942::release(void* memory) const noexcept {
  static_cast<void>(hipFreeAsync(memory, hip::stream_of(*this)));
}

CASCADA_INLINE status hip_gfx942::clear(void* memory, std::size_t bytes) const noexcept {
  return hip::status_of(hipMemsetAsync(memory, 0, bytes, hip::stream_of(*this)));
}

CASCADA_INLINE status hip_gfx942::copy(void* to, const void* from, std::size_t bytes) const noexcept {
  return hip::status_of(hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToDevice, hip::stream_of(*this)));
}

CASCADA_INLINE status hip_gfx942::upload(void* to, const void* from, std::size_t bytes) const noexcept {
  const status answer = hip::status_of(hipMemcpyAsync(to, from, bytes, hipMemcpyHostToDevice, hip::stream_of(*this)));
  return answer == status::ok ? hip::status_of(hipStreamSynchronize(hip::stream_of(*this))) : answer;
}

CASCADA_INLINE status hip_gfx942::download(void* to, const void* from, std::size_t bytes) const noexcept {
  const status answer = hip::status_of(hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToHost, hip::stream_of(*this)));
  return answer == status::ok ? hip::status_of(hipStreamSynchronize(hip::stream_of(*this))) : answer;
}

}  // namespace cascada::inline CASCADA_ABI

#endif
