#pragma once
// Selection and exact cascade on the device, in kernels that the host launches without ever looking at a result.
//
//   begin        norms of all tokens; what each inherits
//   block_graph  verdicts within each block of 64 tokens: one 64-bit row a token
//   cross_gram   in paper mode: verdicts of all tokens on all former representatives
//   advance      once for each block b: tokens from block b on meet the representatives of block b - 1 (scan), and the
//                first of them, block b itself, is resolved (resolve)
//   finish       counts and the report; or, where the step has failed, the old state once more
//
// A full selection is a step that inherits nothing, so both run the same code. The set, rep and Gram operations are the
// CPU's: verdicts are (gram/verdict.hpp), and the rest is integers.

#include <cstdint>

#include "cascada/hip/gram/verdict.hpp"
#include "cascada/report.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

using namespace gram;

inline constexpr index_t block_tokens = 64;  // tokens that one wave resolves

/// What a step did, in device memory; cleared before each.
struct selection_counters {
  gram_operations gram            = {};
  std::int64_t    pairs_evaluated = 0;
  index_t         additions = 0, removals = 0, inherited = 0, orphans = 0;
  index_t         representatives = 0;
  index_t         former          = 0;  // representatives in the layer before; -1: a full selection
  status::code    answer          = status::ok;
};

/// What is known of a token that has not met all representatives before it.
enum class token_stage : index_t {
  awaiting,   // the token it inherits is not resolved yet
  searching,  // compared with every representative so far
  settled,
};

/// A token on its way through the selection.
struct token_progress {
  token_stage stage         = token_stage::settled;
  index_t     found         = -1;  // position in R of the covering representative so far
  float       found_product = 0;   // canonical product with it, for assignment::nearest
};

/// Representatives before a token or a block; those of them that were none in the layer before.
struct set_prefix {
  index_t representatives, added;
};

/// Device memory of a selection of T tokens.
struct selection_memory {
  selection_counters* counters;
  token_progress*     progress;  // [T]
  set_prefix*         before;    // [T]
  std::uint64_t*      graph;     // [T] bit k: token k of the block, an earlier one, covers this token
  set_prefix*         known;     // [blocks + 1] before each block; representatives -1: the step has failed
  std::uint32_t*      cross;     // null, or paper mode's verdicts (cross_gram.hpp): [T, T / 32 rounded up]
};

/// Device memory of a layer's set, as a selection_layer shows it.
struct layer_memory {
  index_t* indices = nullptr;
  index_t* rep     = nullptr;
  index_t* counts  = nullptr;
  index_t* count   = nullptr;
};

/// What every kernel of a selection is given.
template <matrix_scalar Scalar>
struct selection_arguments {
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
