#pragma once
// The library's presets, each with its clusters from the cascade and from keys alone.

#include "cascada/presets.hpp"

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

constexpr preset of(const char* name, features from, const cascada::preset& given) {
  return {name, from, given.selection.threshold, given.attention};
}

constexpr preset presets[] = {
    of("balanced", features::residual, cascada::presets::balanced),
    of("balanced", features::none, cascada::presets::balanced),
    of("accurate", features::residual, cascada::presets::accurate),
    of("accurate", features::none, cascada::presets::accurate),
    of("fast", features::residual, cascada::presets::fast),
    of("fast", features::none, cascada::presets::fast),
};

}  // namespace bench
