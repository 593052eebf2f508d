#pragma once
// A sequence that grows, in numbers that the device alone knows. Nothing that a launch is given depends on how many
// tokens there are: a call that was captured in a graph goes on, each time it is replayed, from what is there.

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A call that fails adds nothing and leaves its answer, with which all later ones fail, until tokens are forgotten.
struct grown_state {
  index_t      tokens;  // so far
  index_t      valid;   // of the call at hand: negative if it has failed; nothing is written then
  status::code answer;

  index_t joined, leaves;   // tokens that may be in leaves; how many these are
  index_t listed;           // the chunk whose far field is the first that is there, plus 1; 0: none
  index_t from, to, older;  // of the call at hand: tokens that join; leaves before
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
  grown_tokens         of     = {};
  grown_leaves         leaves = {};
  index_t              fields = 0, count = 1;  // far fields of a slice; slices
  index_t              most = 0;               // tokens that may join leaves
};

/// A call begins: its tokens follow those that are there. One thread.
struct begin_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens   of;
  index_t        asking, room;  // tokens of the call; how many there is room for
  const index_t* selected;      // null, or [1]: negative where the selection has failed

  // Where there are far fields: of so many chunks in each slice.
  index_t chunk = 0, window = 0, fields = 0, slices = 1;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.thread() != 0) return;
    grown_state& state = *of.state;
    state.answer       = why_not();
    state.valid        = state.answer == status::ok ? 0 : -1;
    if (state.valid < 0) return;
    const index_t begun = state.tokens, end = begun + asking;
    state.tokens = end;
    if (fields == 0)
      of.slices[0] = {begun, begun, end, 0, false};
    else
      slice(state, begun, end);
  }

 private:
  /// Tokens before the last chunk's edge join leaves; chunks ask slice by slice.
  CASCADA_DEVICE CASCADA_INLINE void slice(grown_state& state, index_t begun, index_t end) const {
    const index_t own = begun / chunk, last = (end - 1) / chunk, edge = edge_of(last * chunk, window);
    state.from = state.joined, state.older = state.leaves;
    state.to = state.joined = edge > state.joined ? edge : state.joined;
    const index_t listed    = state.listed;
    for (index_t k = 0; k < slices; ++k) {
      const std::int64_t field = own + std::int64_t{k} * fields, place = field * chunk;
      const std::int64_t close = place + std::int64_t{fields} * chunk;
      const bool         asks  = field <= last;
      of.slices[k]             = {begun, asks ? (k == 0 ? begun : static_cast<index_t>(place)) : end,
                      close < end ? static_cast<index_t>(close) : end, asks ? static_cast<index_t>(field) : last + 1,
                                  k == 0 && listed == own + 1};
      if (asks) state.listed = static_cast<index_t>(field) + 1;
    }
  }

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
  grown_leaves leaves;
  index_t      tokens;  // that stay

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.thread() != 0 || tokens > of.state->tokens) return;
    of.state->tokens = tokens;
    of.state->answer = status::ok;
    of.state->listed = 0;
    of.state->leaves = detail::first_from(leaves.first, 0, of.state->leaves, tokens);
    if (of.state->joined > tokens) of.state->joined = tokens;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
