#pragma once
// Settings that were chosen on a whole model: what each loses, and what it gains, was measured.

#include "cascada/attention_options.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI {

/// How to select on the residual stream, and how to attend with what is selected.
struct preset {
  selection_options selection;
  attention_options attention;
};

/// Coarse clusters of the residual stream, carried from layer to layer by the cascade; leaves by keys inside them;
/// opening by mass. Chosen on SmolLM2-135M and prose; the project's examples measure them on other texts, and its
/// README says what they lose and gain, from which length on each pays, and when to stay dense.
namespace presets {

/// Aims at 0.3 % of perplexity at most, at 8192 tokens.
inline constexpr preset accurate = {
    .selection = {.threshold = 0.4f},
    .attention = {.window = 256, .leaf_threshold = 0.75f, .open_above = 0.002f},
};

/// Aims at 1 % at most.
inline constexpr preset balanced = {
    .selection = {.threshold = 0.4f},
    .attention = {.window = 256, .leaf_threshold = 0.75f, .open_above = 0.006f},
};

/// Aims at 3 % at most.
inline constexpr preset fast = {
    .selection = {.threshold = 0.4f},
    .attention = {.leaf_threshold = 0.7f, .open_above = 0.01f},
};

}  // namespace presets

}  // namespace cascada::inline CASCADA_ABI
