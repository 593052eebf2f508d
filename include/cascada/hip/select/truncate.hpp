#pragma once
// A set that grows forgets its last tokens.

#include "cascada/ascending.hpp"
#include "cascada/hip/select/extension.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// One block. A call that failed is forgotten with its tokens.
template <matrix_scalar Scalar>
struct truncate_selection {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 2;

  grown_set<Scalar> set;
  index_t           tokens;  // that stay

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    grown_state&  state = *set.state;
    const index_t had   = state.tokens;
    for (index_t t = tokens + gpu.thread(); t < had; t += threads)
      gpu.atomic_add(set.layer.counts + set.place[t], index_t{-1});
    gpu.barrier();
    if (gpu.thread() != 0 || tokens > had) return;
    state.tokens          = tokens;
    state.representatives = detail::first_from(set.layer.indices, 0, state.representatives, tokens);
    state.answer          = status::ok;
    *set.layer.count      = state.representatives;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
