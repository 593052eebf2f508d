#pragma once
// The attention of a mode, layer after layer, with what the model's layers ask for: a scale and a cap of their logits,
// and windows of different sizes.

#include <map>
#include <string>
#include <tuple>

#include "cascada/cpu/attention/attention.hpp"
#include "engine/attention_input.hpp"
#include "engine/error.hpp"

namespace engine {

class layer_attention {
 public:
  layer_attention(const cascada::attention_options& options, const backend& where) : options_(options), where_(where) {}

  /// What attends for a layer whose last token is number `tokens - 1`. Dense attention sees the layer's sliding window;
  /// other modes know no such window, so that a text may not be longer than it.
  cascada::attention<float>& of(const attention_input& layer, index_t tokens) {
    const index_t window = layer.sliding_window.value_or(0);
    const key     kind   = {window, layer.scale.value_or(0.0f), layer.softcap.value_or(0.0f)};
    const auto    found  = all_.find(kind);
    if (window > 0 && tokens > window && options_.keys != cascada::key_set::all)
      throw bad_input("attention: " + std::to_string(tokens) + " tokens are more than the model's sliding window of " +
                      std::to_string(window) + ", which only dense attention keeps to");
    if (found != all_.end()) return found->second;
    cascada::attention_options options = options_;
    if (window > 0 && options.keys == cascada::key_set::all) options.sliding_window = window;
    if (layer.scale) options.scale = layer.scale;
    if (layer.softcap) options.softcap = layer.softcap;
    return all_.emplace(kind, cascada::attention<float>(options, where_)).first->second;
  }

 private:
  using key = std::tuple<index_t, float, float>;  // window, scale and cap; 0: none

  cascada::attention_options                   options_;
  backend                                      where_;
  std::map<key, cascada::attention<float>>     all_;
};

}  // namespace engine
