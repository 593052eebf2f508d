#pragma once
// A token that asks what stands now for the representative that it had.

#include <cstdint>

#include "cascada/hip/select/cross_gram.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Whether the candidate, an earlier token, covers token i: by the cross-Gram verdict where there is one. By a wave.
template <class Gpu, class Call>
CASCADA_DEVICE CASCADA_INLINE bool candidate_covers(Gpu& gpu, const Call& call, index_t i, index_t candidate,
                                                    index_t& pairs) {
  if (call.memory.cross && call.old_rep(candidate) == candidate) return cross_covers(call, i, candidate);
  pairs += gpu.lane() == 0;
  return wave_covers(gpu, call.rows, i, candidate, pairs);
}

/// The same for each lane that `asks`, one after the other: whether its own candidate covers its own token.
template <class Gpu, class Call>
CASCADA_DEVICE CASCADA_INLINE bool own_candidate_covers(Gpu& gpu, const Call& call, bool asks, index_t i,
                                                        index_t candidate, index_t& pairs) {
  bool covered = false;
  for (std::uint64_t todo = gpu.ballot(asks); todo != 0; todo &= todo - 1) {
    const auto lane   = static_cast<index_t>(__builtin_ctzll(todo));
    const bool covers = candidate_covers(gpu, call, gpu.read_lane(i, lane), gpu.read_lane(candidate, lane), pairs);
    if (gpu.lane() == lane) covered = covers;
  }
  return covered;
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
