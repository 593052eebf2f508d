#pragma once
// A sequence that grows, in numbers that the device alone knows. Nothing that a launch is given depends on how many
// tokens there are: a call that was captured in a graph goes on, each time it is replayed, from what is there.

#include <cstdint>

#include "cascada/ascending.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/attention/remembered_leaves.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A call that fails adds nothing and leaves its answer, with which all later ones fail, until tokens are forgotten.
struct grown_state {
  index_t      tokens;  // so far
  index_t      valid;   // of the call at hand: negative if it has failed; nothing is written then
  status::code answer;

  index_t joined;    // tokens that may be in leaves
  index_t listed;    // the chunk whose far field is the first that is there, plus 1; 0: none
  index_t from, to;  // of the call at hand: tokens that join

  index_t          remembered;  // from this token on, which leaves were open; before it, at the edges of bands
  remembered_slots slots;       // of the last bands
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
  index_t              parts = 0, part = 0;    // of a slice: chunks or bands; their tokens
  index_t              most       = 0;         // tokens that may join leaves
  remembered_leaves    remembered = {};
  grown_chains         chains     = {};
};

/// A call begins: its tokens follow those that are there. One thread.
struct begin_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens   of;
  index_t        asking, room;  // tokens of the call; how many there is room for
  const index_t* selected;      // null, or [1]: negative where the selection has failed

  // Where there are far fields: slices of so many parts of the tokens, chunks, or bands where leaves open.
  grown_leaves leaves = {};
  index_t      chunk = 0, window = 0, part = 0, parts = 0, slices = 1;
  bool         bands = false;

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
    if (parts == 0) {
      of.slices[0] = {begun, begun, end, 0, false};
      return;
    }
    join(state, end);
    slice(state, begun, end);
    if (!bands) return;
    state.remembered = remembered_from(state.remembered, end, part);
    state.slots.begin_call(begun / part, (end - 1) / part);
  }

 private:
  /// Tokens before the last chunk's edge join leaves.
  CASCADA_DEVICE CASCADA_INLINE void join(grown_state& state, index_t end) const {
    const index_t edge = edge_of((end - 1) / chunk * chunk, window);
    state.from         = state.joined;
    state.to = state.joined = edge > state.joined ? edge : state.joined;
    for (index_t set = 0; set < leaves.sets; ++set) leaves.older[set] = leaves.count[set];
  }

  /// Parts ask slice by slice.
  CASCADA_DEVICE CASCADA_INLINE void slice(grown_state& state, index_t begun, index_t end) const {
    for (index_t k = 0; k < slices; ++k) {
      const std::int64_t place = (std::int64_t{begun / part} + std::int64_t{k} * parts) * part;
      const std::int64_t close = place + std::int64_t{parts} * part;
      const bool         asks  = place < end;
      const index_t      first = !asks ? end : k == 0 ? begun : static_cast<index_t>(place);
      const index_t      field = asks ? first / chunk : (end - 1) / chunk + 1;
      of.slices[k] = {begun, first, close < end ? static_cast<index_t>(close) : end, field, state.listed == field + 1};
      if (asks) state.listed = field + 1;
    }
  }

  CASCADA_DEVICE CASCADA_INLINE status::code why_not() const {
    if (of.state->answer != status::ok) return of.state->answer;
    if (asking > room - of.state->tokens) return status::too_large;
    return selected && has_failed(selected) ? status::invalid_representatives : status::ok;
  }
};

/// The sequence forgets its last tokens, and with them that a call has failed. A thread for each set of leaves.
struct truncate_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens of;
  grown_leaves leaves;
  grown_chains chains;
  index_t      tokens;  // that stay
  index_t      room;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (tokens > of.state->tokens) return;
    for (index_t set = gpu.thread(); set < leaves.sets; set += threads) {
      const grown_leaves own = leaves.of(set, room);
      *own.count             = detail::first_from(own.first, 0, *own.count, tokens);
    }
    for (index_t head = gpu.thread(); head < chains.sets; head += threads) {
      const grown_chains own = chains.of(head, room);
      *own.count             = detail::first_from(own.anchors, 0, *own.count, tokens);
    }
    if (gpu.thread() != 0) return;
    of.state->tokens = tokens;
    of.state->answer = status::ok;
    of.state->listed = 0;
    if (of.state->joined > tokens) of.state->joined = tokens;
    if (of.state->remembered > tokens) of.state->remembered = tokens;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
