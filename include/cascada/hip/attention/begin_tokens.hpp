#pragma once
// How a call of a sequence that grows begins: the device counts its tokens, and says which slices of them there are.

#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/remembered_leaves.hpp"
#include "cascada/hip/base/growth.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A call begins: its tokens follow those that are there. One thread.
struct begin_tokens {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens   of;
  index_t        queries, room;   // tokens of the call; how many there is room for
  const index_t* selected;        // null, or [selections]: negative where the selection has failed
  index_t        selections = 1;  // of which one that has failed is enough

  // Where there are far fields: slices of so many parts of the tokens, chunks, or bands where leaves open.
  grown_leaves leaves = {};
  index_t      chunk = 0, window = 0, sinks = 0, part = 0, parts = 0, slices = 1;
  bool         bands = false;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.thread() != 0) return;
    grown_state& state = *of.state;
    state.answer       = why_not();
    state.valid        = state.answer == status::ok ? 0 : -1;
    if (state.valid < 0) return;
    const index_t begun = state.tokens, end = begun + queries;
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
  /// Tokens before the last chunk's edge join leaves, all but sinks.
  CASCADA_DEVICE CASCADA_INLINE void join(grown_state& state, index_t end) const {
    state.from = state.joined < sinks ? sinks : state.joined;
    state.to = state.joined = state.joins_until(end, chunk, window);
    for (index_t set = 0; set < leaves.sets; ++set) leaves.older[set] = leaves.count[set];
  }

  /// Parts have their turn slice by slice.
  CASCADA_DEVICE CASCADA_INLINE void slice(grown_state& state, index_t begun, index_t end) const {
    for (index_t k = 0; k < slices; ++k) {
      const std::int64_t place = (std::int64_t{begun / part} + std::int64_t{k} * parts) * part;
      const std::int64_t close = place + std::int64_t{parts} * part;
      const bool         there = place < end;
      const index_t      first = !there ? end : k == 0 ? begun : static_cast<index_t>(place);
      const index_t      field = there ? first / chunk : (end - 1) / chunk + 1;
      of.slices[k] = {begun, first, close < end ? static_cast<index_t>(close) : end, field, state.listed == field + 1};
      if (there) state.listed = field + 1;
    }
  }

  CASCADA_DEVICE CASCADA_INLINE status::code why_not() const {
    const index_t* failing = selected;
    for (index_t set = 1; set < selections; ++set)
      if (has_failed(selected + set)) failing = selected + set;
    return answer_of_call(of.state->answer, queries, room - of.state->tokens, failing);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
