#pragma once
// A selection's begin: norms of all tokens, and what each inherits. Of a step, the set so far first becomes that of the
// layer before: so a step always leaves its set in the same place, also where it was captured in a graph.

#include "cascada/hip/select/call.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Token i, which inherits what old_rep(i) says, on its way.
template <class Call>
CASCADA_DEVICE CASCADA_INLINE void begin_token(const Call& call, index_t i) {
  const float square = canonical_product(call.rows.x.row(i), call.rows.x.row(i), call.rows.x.cols);
  if (!detail::is_finite(square)) call.memory.counters->answer = status::non_finite_token;
  call.rows.norms[i]      = detail::norm_or(square, zero_row_norm);
  call.memory.progress[i] = {call.old_rep(i) != i ? token_stage::awaiting : token_stage::searching};
}

template <matrix_scalar Scalar>
struct selection_begin {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 2;

  selection_call<Scalar> call;

  index_t grid() const { return call.blocks() > 0 ? call.blocks() : 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t i = gpu.block() * threads + gpu.thread();
    if (call.before.rep) keep(i);
    if (i == 0) call.memory.known[0] = {0, 0};
    if (i >= call.tokens()) return;
    call.now.counts[i] = 0;
    begin_token(call, i);
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE void keep(index_t i) const {
    const index_t count = *call.now.count;
    if (i == 0) *call.before.count = count;
    if (i < count) call.before.indices[i] = call.now.indices[i], call.before.counts[i] = call.now.counts[i];
    if (i < call.tokens()) call.before.rep[i] = call.now.rep[i];
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
