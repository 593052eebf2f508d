#pragma once
// The attention of a mode, layer after layer: layers of one model may see windows of different sizes.

#include <map>
#include <string>

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
    const auto    found  = all_.find(window);
    if (window > 0 && tokens > window && options_.keys != cascada::key_set::all)
      throw bad_input("attention: " + std::to_string(tokens) + " tokens are more than the model's sliding window of " +
                      std::to_string(window) + ", which only dense attention keeps to");
    if (found != all_.end()) return found->second;
    cascada::attention_options options = options_;
    if (window > 0 && options.keys == cascada::key_set::all) options.sliding_window = window;
    return all_.emplace(window, cascada::attention<float>(options, where_)).first->second;
  }

 private:
  cascada::attention_options                   options_;
  backend                                      where_;
  std::map<index_t, cascada::attention<float>> all_;  // by window; 0: none
};

}  // namespace engine
