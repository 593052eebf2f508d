#pragma once
// What selections keep in device memory: the set of a layer, and what a step knows of its tokens.

#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/hip/select/counters.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

inline constexpr index_t block_tokens    = 64;   // that one wave resolves
inline constexpr index_t scan_tokens     = 32;   // that one block compares with representatives
inline constexpr index_t stretch_tokens  = 256;  // that one launch resolves
inline constexpr index_t stretch_blocks  = stretch_tokens / block_tokens;
inline constexpr index_t neighbour_words = 2 * stretch_tokens / 32;  // of verdicts on a token's neighbours

/// What is known of a token that has not met all representatives before it.
enum class token_stage : index_t {
  awaiting,   // the token it inherits is not resolved yet; it searches meanwhile, in case that one fails it
  searching,  // compared with every representative so far
  settled,
};

/// A token on its way through the selection.
struct token_progress {
  token_stage stage         = token_stage::settled;
  index_t     found         = -1;  // position in R of the covering representative so far
  float       found_product = 0;   // canonical product with it, for assignment::nearest
};

/// Representatives before a token or a stretch; those of them that were none in the layer before.
struct set_prefix {
  index_t representatives, added;
};

/// Device memory of a selection of T tokens.
struct selection_memory {
  selection_counters* counters;
  token_progress*     progress;  // [T]
  set_prefix*         prefix;    // [T] what lies before each token
  std::uint32_t*      graph;     // [T, neighbour_words] bit k: neighbour k covers this token; from its block on, zeros
  set_prefix*         known;     // [stretches + 1] before each stretch; representatives -1: the step has failed
  std::uint32_t*      cross;     // null, or paper mode's verdicts (cross_gram.hpp): [T, T / 32 rounded up]
};

/// Device memory of a layer's set, as a selection_layer shows it.
struct layer_memory {
  index_t* indices = nullptr;
  index_t* rep     = nullptr;
  index_t* counts  = nullptr;
  index_t* count   = nullptr;
};

}  // namespace cascada::inline CASCADA_ABI::hip::select
