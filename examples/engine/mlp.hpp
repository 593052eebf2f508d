#pragma once
// The feed-forward half of a layer.

#include "engine/linear.hpp"
#include "engine/matrix.hpp"

namespace engine {

/// Gated linear unit with SiLU (SwiGLU, arXiv:2002.05202): (silu(x gate^T) * x up^T) down^T.
struct gated_mlp {
  matrix gate, up;  // [intermediate, hidden]
  matrix down;      // [hidden, intermediate]

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

}  // namespace engine
