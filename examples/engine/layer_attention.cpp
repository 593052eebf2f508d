#include "engine/layer_attention.hpp"

#include <string>

#include "engine/error.hpp"

namespace engine {

const cascada::attention_report& layer_attention::operator()(const attention_input&                    layer,
                                                             std::span<const cascada::representatives> kept,
                                                             matrix&                                   out) {
  auto& attention = of(layer, rows_of(layer.queries));
  require_ok(attention(heads(layer.queries, layer.heads), layer.kv(), kept, heads(out, layer.heads)), "attention");
  return attention.report();
}

const cascada::attention_report& layer_attention::extend(cascada::attention_state<float>&          state,
                                                         const attention_input&                    next,
                                                         const cascada::strided_kv<float>&         kv,
                                                         std::span<const cascada::representatives> kept, matrix& out) {
  auto& attention = of(next, state.tokens() + rows_of(next.queries));
  require_ok(attention.extend(state, heads(next.queries, next.heads), kv, kept, heads(out, next.heads)), "attention");
  return attention.report();
}

const cascada::attention_report& layer_attention::last(const attention_input&                  next,
                                                       const cascada::heads_view<const float>& q,
                                                       const cascada::strided_kv<float>&       kv,
                                                       const cascada::heads_view<float>&       out) {
  auto& attention = of(next, kv.tokens());
  require_ok(attention(q, kv, out), "attention");
  return attention.report();
}

cascada::attention<float>& layer_attention::of(const attention_input& layer, index_t tokens) {
  const std::optional<index_t> window = layer.sliding_window;
  const key                    kind   = {window, layer.scale, layer.softcap};
  const auto                   found  = all_.find(kind);
  if (window && tokens > *window && options_.keys != cascada::key_set::all)
    throw bad_input("attention: " + std::to_string(tokens) + " tokens are more than the model's sliding window of " +
                    std::to_string(*window) + ", which only dense attention keeps to");
  if (found != all_.end()) return found->second;
  cascada::attention_options options = options_;
  if (window && options.keys == cascada::key_set::all) options.sliding_window = window;
  if (layer.scale) options.scale = layer.scale;
  if (layer.softcap) options.softcap = layer.softcap;
  return all_.emplace(kind, cascada::attention<float>(options, where_)).first->second;
}

}  // namespace engine
