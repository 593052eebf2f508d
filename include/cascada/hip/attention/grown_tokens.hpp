#pragma once
// A sequence that grows, in numbers that the device alone knows. Nothing that a launch is given depends on how many
// tokens there are: a call that was captured in a graph goes on, each time it is replayed, from what is there.

#include <cstdint>

#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A call that fails adds nothing and leaves its answer, with which all later ones fail, until tokens are forgotten.
struct grown_state {
  index_t      tokens;  // so far
  index_t      valid;   // of the call at hand: negative if it has failed; nothing is written then
  status::code answer;
};

/// Numbers of a sequence that grows, and of a call of it.
struct grown_tokens {
  grown_state*   state;  // [1]
  asking_tokens* slices;
};

/// What the kernels of a call are told of it; nothing where a sequence does not grow.
struct growing_call {
  const asking_tokens* slices = nullptr;
  const index_t*       valid  = nullptr;  // [1]
};

/// A call begins: its tokens follow those that are there. One thread.
struct begin_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens   of;
  index_t        asking, room;  // tokens of the call; how many there is room for
  const index_t* selected;      // null, or [1]: negative where the selection has failed

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.thread() != 0) return;
    grown_state& state = *of.state;
    state.answer       = why_not();
    state.valid        = state.answer == status::ok ? 0 : -1;
    if (state.valid < 0) return;
    const index_t begun = state.tokens, end = begun + asking;
    of.slices[0] = {begun, begun, end, 0};
    state.tokens = end;
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE status::code why_not() const {
    if (of.state->answer != status::ok) return of.state->answer;
    if (asking > room - of.state->tokens) return status::too_large;
    return selected && has_failed(selected) ? status::invalid_representatives : status::ok;
  }
};

/// The sequence forgets its last tokens, and with them that a call has failed. One thread.
struct truncate_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens of;
  index_t      tokens;  // that stay

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.thread() != 0 || tokens > of.state->tokens) return;
    of.state->tokens = tokens;
    of.state->answer = status::ok;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
