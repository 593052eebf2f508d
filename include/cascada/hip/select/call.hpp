#pragma once
// A call, a selection or a step of the exact cascade: what its kernels are given. The host launches them without ever
// looking at a result.
//
//   begin        norms of all tokens; what each inherits
//   graph        verdicts of all tokens on their neighbours: those of their stretch of 256 tokens and of the one before
//   cross_gram   in paper mode: verdicts of all tokens on all former representatives
//   advance      once for each stretch s: one block resolves it (resolve), while tokens of later stretches meet the
//                representatives of stretch s - 1 (scan)
//   count        counts and the report; or, where the step has failed, the old state once more
//
// What is sequential is the set. A launch takes as long as its longest block: the one that resolves multiplies nothing,
// since all that its tokens could still meet are neighbours, and each other block meets one stretch's representatives.
// For that, verdicts on neighbours are made for all pairs, whether or not one of them becomes a representative: 448 d T
// products, whole tiles, at once on all compute units.
//
// A full selection is a step that inherits nothing, so both run the same code. The set, rep and Gram operations are the
// CPU's: verdicts are (gram/verdict.hpp), and the rest is integers.

#include <cstdint>

#include "cascada/hip/gram/verdict.hpp"
#include "cascada/hip/select/memory.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// What every kernel of a selection is given.
template <matrix_scalar Scalar, template <class> class Rows = gram_rows>
struct selection_call {
  Rows<Scalar>     rows;
  selection_memory memory;
  layer_memory     now;     // to be made
  layer_memory     before;  // inherited; without rep, nothing is
  assignment       assign;
  index_t          limit;  // of representatives

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tokens() const { return rows.x.rows; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t blocks() const { return (tokens() + block_tokens - 1) / block_tokens; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t stretches() const {
    return (tokens() + stretch_tokens - 1) / stretch_tokens;
  }

  /// The representative that token i had; with no layer before, every token was one.
  CASCADA_DEVICE CASCADA_INLINE index_t old_rep(index_t i) const { return before.rep ? before.rep[i] : i; }

  /// The first neighbour of token i, number 0; of the first stretch, whose neighbours are its own tokens, -256.
  CASCADA_DEVICE CASCADA_INLINE static index_t first_neighbour(index_t i) {
    return (i / stretch_tokens - 1) * stretch_tokens;
  }

  /// Which of 64 neighbours of token i, from number `number` on, cover it, as bits.
  CASCADA_DEVICE CASCADA_INLINE std::uint64_t covering(index_t i, index_t number) const {
    const std::uint32_t* const words = memory.graph + std::int64_t{i} * neighbour_words + number / 32;
    return words[0] | std::uint64_t{words[1]} << 32;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
