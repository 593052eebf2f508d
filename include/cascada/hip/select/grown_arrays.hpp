#pragma once
// The arrays of a set that grows and of its calls, cut from one allocation.

#include <algorithm>
#include <cstdint>

#include "cascada/hip/base/memory.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/hip/select/extension.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Nothing, at first. Pointers to what has entries below 0 are to the first of these.
template <matrix_scalar Scalar>
struct grown_arrays {
  grown_set<Scalar> set     = {};
  selection_memory  of_call = {};
  layer_memory      now     = {};
  index_t*          old     = nullptr;  // numbers that tokens inherit
  float*            norms   = nullptr;
  covering_row*     met     = nullptr;
  index_t           cols = 0, piece = 0;  // d; tokens of a call at most

  /// How many entries are below 0.
  index_t below_zero() const noexcept { return set.place_of(0); }

  void cut(carver& from) noexcept {
    const std::int64_t numbers = std::int64_t{below_zero()} + piece;
    from.cut(set.layer.indices, set.room), from.cut(set.layer.rep, set.token_room);
    from.cut(set.layer.counts, set.room), from.cut(set.layer.count, 1);
    from.cut(set.state, 1), from.cut(set.place, set.token_room);
    from.cut(set.rows, std::int64_t{set.room} * cols);
    from.cut(now.indices, set.room), from.cut(now.rep, numbers), from.cut(old, numbers);
    from.cut(norms, numbers), from.cut(of_call.prefix, numbers);
    from.cut(of_call.counters, 1), from.cut(of_call.progress, piece),
        from.cut(of_call.known, (piece - 1) / stretch_tokens + 2);
    from.cut(of_call.graph, std::int64_t{piece} * neighbour_words);
    from.cut(met, std::max(extension_call<Scalar>::most_parts * scan_tokens, piece));
  }

  /// An extension by x.
  extension_call<Scalar> call(const selection_options& options, matrix_view<const Scalar> x,
                              const selection_layer& below) const noexcept {
    const index_t first_new = below_zero();
    auto          memory    = of_call;
    auto          made      = now;
    memory.prefix += first_new, made.rep += first_new;
    return {.call        = {.rows   = {{x, options.threshold, norms + first_new},
                                       {set.rows + std::int64_t{first_new} * cols, set.room, cols, cols}},
                            .memory = memory,
                            .now    = made,
                            .before = {.rep = below.rep ? old + first_new : nullptr},
                            .assign = options.assign,
                            .limit  = set.room},
            .set         = set,
            .below       = below.rep,
            .below_count = below.count,
            .met         = met};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
