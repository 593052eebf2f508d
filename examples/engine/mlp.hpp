#pragma once
// The feed-forward half of a layer.

#include <string>

#include "engine/config.hpp"
#include "engine/linear.hpp"
#include "engine/matrix.hpp"

namespace engine {

enum class activation { relu, gelu, gelu_tanh, silu };

/// By the name that config.json has under `key`.
activation read_activation(const config& file, const std::string& key, const std::string& otherwise);

/// Gated linear unit (arXiv:2002.05202): (activation(x gate^T) * x up^T) down^T.
struct gated_mlp {
  stored_matrix gate, up;  // [intermediate, hidden]
  stored_matrix down;      // [hidden, intermediate]
  activation    function = activation::silu;

  void operator()(const matrix& x, matrix& y, const backend& where) const;
};

/// Two linear layers: activation(raise(x)), lowered.
struct plain_mlp {
  affine     raise;  // [intermediate, hidden]
  affine     lower;  // [hidden, intermediate]
  activation function = activation::gelu;

  void operator()(const matrix& x, matrix& y, const backend& where) const;
};

}  // namespace engine
