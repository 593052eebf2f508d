#pragma once
// An extension's end: the set takes in the new tokens, or stays as it was where the call has failed.

#include "cascada/hip/select/extension.hpp"
#include "cascada/hip/select/result.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// One block: 64 tokens. Waves copy the rows of those that became representatives; the first one does all else.
template <matrix_scalar Scalar>
struct adopt_extension {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 2;

  extension_call<Scalar> of;

  index_t grid() const { return of.call.blocks() > 0 ? of.call.blocks() : 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t all   = of.call.memory.known[of.call.stretches()].representatives;
    const bool    first = gpu.block() == 0 && gpu.thread() == 0;
    if (first) conclude(all);
    if (all < 0) return;
    const index_t begin = gpu.block() * block_tokens, left = of.call.tokens() - begin;
    for (index_t local = gpu.wave(); local < block_tokens && local < left; local += threads / gfx942::wave)
      if (of.call.now.rep[begin + local] == begin + local) copy_row(gpu, begin + local);
    if (gpu.wave() == 0 && gpu.lane() < left) take(gpu, begin + gpu.lane());
  }

 private:
  /// What the set is now, in numbers; `all` below 0: as it was.
  CASCADA_DEVICE CASCADA_INLINE void conclude(index_t all) const {
    grown_state&        state    = *of.set.state;
    selection_counters& counters = *of.call.memory.counters;
    *of.set.layer.count          = all;
    if (all < 0) {
      state.answer = counters.fail();
      return;
    }
    state.tokens = state.extended = state.begun + of.call.tokens();
    state.representatives         = all;
    counters.representatives      = all;
    counters.former               = -1;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void copy_row(Gpu& gpu, index_t i) const {
    const index_t       cols = of.call.rows.x.cols;
    const Scalar* const from = of.call.rows.x.row(i);
    Scalar* const       to   = of.set.rows + std::int64_t{of.call.memory.prefix[i].representatives} * cols;
    for (index_t k = 8 * gpu.lane(); k < cols; k += 8 * gfx942::wave)
      store_8(reinterpret_cast<std::uint16_t*>(to + k), load_8(from + k));
  }

  /// New token i is one of the set's.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void take(Gpu& gpu, index_t i) const {
    const auto&         call  = of.call;
    const layer_memory& layer = of.set.layer;
    const index_t       rep = call.now.rep[i], place = call.memory.prefix[rep].representatives;
    const index_t       token  = of.set.state->begun + i;
    const index_t       number = of.set.number_of(place);
    layer.rep[token]           = rep < 0 ? layer.indices[place] : of.set.state->begun + rep;
    of.set.place[token]        = place;
    gpu.atomic_add(layer.counts + place, index_t{1});
    if (rep == i) {
      layer.indices[place]    = token;
      call.now.indices[place] = number;
      call.rows.norms[number] = call.rows.norms[i];
    }
    selection_counters sums;
    selection_result<typename extension_call<Scalar>::selection>{call}.count(i, of.below != nullptr, sums);
    call.memory.counters->add(gpu, sums);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
