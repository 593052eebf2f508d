#pragma once
// A call, a selection or a step of the exact cascade: what its kernels are given. The host launches them without ever
// looking at a result.
//
//   begin        norms of all tokens; what each inherits
//   block_graph  verdicts within each block of 64 tokens: one 64-bit row a token
//   cross_gram   in paper mode: verdicts of all tokens on all former representatives
//   advance      once for each block b: tokens from block b on meet the representatives of block b - 1 (scan), and the
//                first of them, block b itself, is resolved (resolve)
//   count        counts and the report; or, where the step has failed, the old state once more
//
// A full selection is a step that inherits nothing, so both run the same code. The set, rep and Gram operations are the
// CPU's: verdicts are (gram/verdict.hpp), and the rest is integers.

#include "cascada/hip/gram/verdict.hpp"
#include "cascada/hip/select/memory.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

/// What every kernel of a selection is given.
template <matrix_scalar Scalar>
struct selection_call {
  gram_rows<Scalar> rows;
  selection_memory  memory;
  layer_memory      now;     // to be made
  layer_memory      before;  // inherited; without rep, nothing is
  assignment        assign;
  index_t           limit;  // of representatives

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t tokens() const { return rows.x.rows; }
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t blocks() const { return (tokens() + block_tokens - 1) / block_tokens; }

  /// The representative that token i had; with no layer before, every token was one.
  CASCADA_DEVICE CASCADA_INLINE index_t old_rep(index_t i) const { return before.rep ? before.rep[i] : i; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
