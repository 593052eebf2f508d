#pragma once
// A token that asks what stands now for the representative that it had.

#include "cascada/hip/select/cross_gram.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Whether the candidate, an earlier token, covers token i: by the cross-Gram verdict where there is one. By a wave.
template <class Gpu, matrix_scalar Scalar>
CASCADA_DEVICE CASCADA_INLINE bool candidate_covers(Gpu& gpu, const selection_call<Scalar>& call, index_t i,
                                                    index_t candidate, index_t& pairs) {
  if (call.memory.cross && call.old_rep(candidate) == candidate) return cross_covers(call, i, candidate);
  pairs += gpu.lane() == 0;
  return wave_covers(gpu, call.rows, i, candidate, pairs);
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
