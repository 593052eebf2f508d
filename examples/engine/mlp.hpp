#pragma once
// The feed-forward half of a layer.

#include <cmath>

#include "engine/linear.hpp"
#include "engine/matrix.hpp"

namespace engine {

/// Gated linear unit with SiLU (SwiGLU, arXiv:2002.05202): (silu(x gate^T) * x up^T) down^T.
struct gated_mlp {
  stored_matrix gate, up;  // [intermediate, hidden]
  stored_matrix down;      // [hidden, intermediate]

  void operator()(const matrix& x, matrix& y, const backend& where) const {
    matrix gated, raised;
    linear(x, gate, gated, where);
    linear(x, up, raised, where);
    for_pieces(rows_of(x), 32, where, [&](index_t begin, index_t count) {
      auto g = gated.middleRows(begin, count).array();
      g      = g / (1 + (-g).exp()) * raised.middleRows(begin, count).array();
    });
    linear(gated, down, y, where);
  }
};

/// max(x, 0).
struct relu {
  template <class Rows>
  void operator()(Rows&& x) const {
    x = x.max(0.0f);
  }
};

/// x / 2 (1 + erf(x / sqrt(2))) (arXiv:1606.08415).
struct gelu {
  template <class Rows>
  void operator()(Rows&& x) const {
    x = x.unaryExpr([](float a) { return 0.5f * a * (1 + std::erf(0.707106781f * a)); });
  }
};

/// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the approximation that GPT-2 was trained with (arXiv:1606.08415).
struct gelu_new {
  template <class Rows>
  void operator()(Rows&& x) const {
    x = 0.5f * x * (1 + (0.797884561f * (x + 0.044715f * x.cube())).tanh());
  }
};

/// Two linear layers: activation(raise(x)), lowered.
template <class Activation>
struct plain_mlp {
  affine raise;  // [intermediate, hidden]
  affine lower;  // [hidden, intermediate]

  void operator()(const matrix& x, matrix& y, const backend& where) const {
    matrix raised;
    raise(x, raised, where);
    for_pieces(rows_of(x), 32, where,
               [&](index_t begin, index_t count) { Activation{}(raised.middleRows(begin, count).array()); });
    lower(raised, y, where);
  }
};

}  // namespace engine
