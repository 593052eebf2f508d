#pragma once
// Settings of near + far that the comparisons measure, each with its clusters from the cascade and from keys alone.

#include "cascada/attention_options.hpp"

namespace bench {

/// What selects the clusters.
enum class features : int {
  residual,  // one cascade of the residual stream, for all KV heads
  keys,      // one cascade of each KV head's keys
  none,      // one cluster of all tokens: leaves by keys do all of it
};

struct preset {
  const char*                name;
  features                   from;
  float                      threshold;  // of the cascade
  cascada::attention_options attention;
};

constexpr preset presets[] = {
    {"balanced", features::residual, 0.5f, {.leaf_threshold = 0.7f, .open_above = 0.01f}},
    {"balanced", features::none, 0.5f, {.leaf_threshold = 0.7f, .open_above = 0.01f}},
    {"accurate", features::residual, 0.5f, {.leaf_threshold = 0.7f, .open_above = 0.005f}},
    {"accurate", features::none, 0.5f, {.leaf_threshold = 0.7f, .open_above = 0.005f}},
    {"fast", features::residual, 0.5f, {.leaf_threshold = 0.6f, .open_above = 0.02f}},
    {"fast", features::none, 0.5f, {.leaf_threshold = 0.6f, .open_above = 0.02f}},
};

}  // namespace bench
