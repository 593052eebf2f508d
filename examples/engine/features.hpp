#pragma once
// Which rows of a layer the selection sees.

#include <string>

#include "cascada/eigen.hpp"
#include "engine/attention_input.hpp"
#include "engine/error.hpp"

namespace engine {

enum class features {
  residual,    // the residual stream entering the layer
  normalized,  // its normalised form, which the projections read
  keys,        // the keys of all KV heads, side by side
};

inline features features_named(const std::string& name) {
  if (name == "residual") return features::residual;
  if (name == "normalized") return features::normalized;
  if (name == "keys") return features::keys;
  throw bad_input("unknown features " + name + "; there are residual, normalized and keys");
}

inline cascada::matrix_view<const float> rows(const attention_input& layer, features which) {
  switch (which) {
    case features::residual: return cascada::view(layer.residual);
    case features::normalized: return cascada::view(layer.normalized);
    case features::keys: return cascada::view(layer.keys);
  }
  return {};
}

}  // namespace engine
