#pragma once
// What a layer hands to its attention: a model computes this, an attention of any kind consumes it.

#include <functional>
#include <optional>

#include "cascada/kv_view.hpp"
#include "engine/matrix.hpp"

namespace engine {

struct attention_input {
  index_t       layer;
  index_t       heads, kv_heads;
  const matrix& residual;    // [T, hidden] the residual stream entering the layer
  const matrix& normalized;  // [T, hidden] what the projections read
  const matrix& queries;     // [T, heads * head_dim] rotated
  const matrix& keys;        // [T, kv_heads * head_dim] rotated
  const matrix& values;      // [T, kv_heads * head_dim]

  std::optional<index_t> sliding_window = std::nullopt;  // tokens that a token of this layer sees, itself the last
  std::optional<float>   scale = std::nullopt, softcap = std::nullopt;  // of its logits, as attention_options say

  cascada::strided_kv<float> kv() const { return {engine::heads(keys, kv_heads), engine::heads(values, kv_heads)}; }
};

/// Fills out [T, heads * head_dim] of a layer.
using attention_function = std::function<void(const attention_input&, matrix& out)>;

}  // namespace engine
