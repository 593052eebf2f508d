#pragma once
// Numbers of the representatives that a set has, for calls that take tokens behind them.

#include "cascada/hip/select/extension.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// What numbers below 0 stand for, once, where new memory was made.
template <matrix_scalar Scalar>
struct number_kept {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 2;

  extension_call<Scalar> of;

  index_t grid() const { return (of.set.room - 1) / threads + 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t place = gpu.block() * threads + gpu.thread(), number = of.set.number_of(place);
    if (place >= of.set.room) return;
    of.call.now.indices[place]    = number;
    of.call.now.rep[number]       = number;
    of.call.before.rep[number]    = number;
    of.call.memory.prefix[number] = {place, 0};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
