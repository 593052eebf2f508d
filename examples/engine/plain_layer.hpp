#pragma once
// The layer of GPT-2 and OPT: attention, then a plain MLP, with biases throughout.

#include "engine/attention_input.hpp"
#include "engine/linear.hpp"
#include "engine/matrix.hpp"
#include "engine/mlp.hpp"
#include "engine/norm.hpp"

namespace engine {

/// Whether a LayerNorm stands before each half of a layer, or after the half is added to the residual stream.
enum class norm_place { before, after };

struct plain_layer {
  affine     query, key, value, output;
  layer_norm attention_norm;
  plain_mlp  mlp;
  layer_norm mlp_norm;

  /// Runs x [T, hidden] through layer `index`. `attend(attention_input, out)` fills out [T, hidden].
  void operator()(index_t index, index_t heads, float epsilon, norm_place place, matrix& x,
                  const attention_function& attend, const backend& where) const {
    const bool    before = place == norm_place::before;
    matrix        normalized, q, k, v, attended(x.rows(), query.weight.rows()), update;
    const matrix& read = before ? normalized : x;
    if (before) attention_norm(x, epsilon, normalized, where);
    query(read, q, where);
    key(read, k, where);
    value(read, v, where);
    attend(attention_input{index, heads, heads, x, read, q, k, v}, attended);
    output(attended, update, where);
    x += update;
    if (!before) attention_norm(x, epsilon, normalized, where), x.swap(normalized);

    if (before) mlp_norm(x, epsilon, normalized, where);
    mlp(read, update, where);
    x += update;
    if (!before) mlp_norm(x, epsilon, normalized, where), x.swap(normalized);
  }
};

}  // namespace engine
