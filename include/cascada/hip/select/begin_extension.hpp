#pragma once
// An extension's begin: norms of the new tokens, and what each inherits.

#include "cascada/hip/base/growth.hpp"
#include "cascada/hip/select/begin.hpp"
#include "cascada/hip/select/extension.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

template <matrix_scalar Scalar>
struct begin_extension {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 2;

  extension_call<Scalar> of;

  index_t grid() const { return of.call.blocks() > 0 ? of.call.blocks() : 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const auto&        call    = of.call;
    grown_state&       state   = *of.set.state;
    const status::code refused = why_not();
    const index_t      i       = gpu.block() * threads + gpu.thread();
    if (i == 0) {
      call.memory.known[0] = {refused == status::ok ? state.representatives : -1, 0};
      state.begun          = state.tokens;
      if (refused != status::ok) call.memory.counters->answer = refused;
    }
    if (refused != status::ok || i >= call.tokens()) return;

    if (state.representatives + i < of.set.room) of.set.layer.counts[state.representatives + i] = 0;
    if (of.below) call.before.rep[i] = inherited(i, state.tokens);
    begin_token(call, i);
  }

 private:
  /// Why the call fails, whatever its rows are.
  CASCADA_DEVICE CASCADA_INLINE status::code why_not() const {
    const grown_state& state = *of.set.state;
    return answer_of_call(state.answer, of.call.tokens(), of.set.token_room - state.tokens, of.below_count);
  }

  /// The number of what new token i had in the layer below: its own if that is new, else what stands for it here.
  CASCADA_DEVICE CASCADA_INLINE index_t inherited(index_t i, index_t tokens) const {
    const index_t old = of.below[tokens + i];
    if (old < 0 || old > tokens + i) {
      of.call.memory.counters->answer = status::invalid_representatives;
      return i;
    }
    return old < tokens ? of.set.number_of(of.set.place[old]) : old - tokens;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
