#pragma once
// Which rows of a layer the selection sees.

#include <cstddef>
#include <string>

#include "cascada/eigen.hpp"
#include "engine/attention_input.hpp"
#include "engine/error.hpp"

namespace engine {

enum class features {
  residual,    // the residual stream entering the layer
  normalized,  // its normalised form, which the projections read
  keys,        // its keys: a selection for each KV head, which sees that head's
};

inline features features_named(const std::string& name) {
  if (name == "residual") return features::residual;
  if (name == "normalized") return features::normalized;
  if (name == "keys") return features::keys;
  throw bad_input("unknown features " + name + "; there are residual, normalized and keys");
}

inline const char* name_of(features which) {
  switch (which) {
    case features::residual: return "residual";
    case features::normalized: return "normalized";
    case features::keys: return "keys";
  }
  return "";
}

/// Selections of a layer: one that all KV heads share, or one for each.
inline index_t selections(const attention_input& layer, features which) {
  return which == features::keys ? layer.kv_heads : 1;
}

/// The rows [T, d] that selection `set` of a layer sees.
inline cascada::matrix_view<const float> rows(const attention_input& layer, features which, index_t set) {
  switch (which) {
    case features::residual: return cascada::view(layer.residual);
    case features::normalized: return cascada::view(layer.normalized);
    case features::keys: {
      auto keys = cascada::view(layer.keys);
      keys.cols /= layer.kv_heads;
      keys.data += std::ptrdiff_t{set} * keys.cols;
      return keys;
    }
  }
  return {};
}

}  // namespace engine
