#pragma once
// The attention of a mode, layer after layer, with what the model's layers ask for: a scale and a cap of their logits,
// and windows of different sizes.

#include <map>
#include <optional>
#include <span>
#include <tuple>

#include "cascada/cpu/attention/attention.hpp"
#include "engine/attention_input.hpp"
#include "engine/matrix.hpp"

namespace engine {

class layer_attention {
 public:
  layer_attention(const cascada::attention_options& options, const backend& where) : options_(options), where_(where) {}

  /// Fills out [T, heads * head_dim] for a layer and its representatives: one set, or one per KV head. Returns the
  /// report.
  const cascada::attention_report& operator()(const attention_input&                    layer,
                                              std::span<const cascada::representatives> kept, matrix& out);

  /// The same for the next rows of a sequence that grows: `kv` and `kept` are of all its tokens.
  const cascada::attention_report& extend(cascada::attention_state<float>& state, const attention_input& next,
                                          const cascada::strided_kv<float>&         kv,
                                          std::span<const cascada::representatives> kept, matrix& out);

  /// The last queries of a sequence, of some or all heads, against keys and values that are all there.
  const cascada::attention_report& last(const attention_input& next, const cascada::heads_view<const float>& q,
                                        const cascada::strided_kv<float>& kv, const cascada::heads_view<float>& out);

 private:
  /// What attends for a layer whose last token is number `tokens - 1`. Dense attention sees the layer's sliding window;
  /// other modes know no such window, so that a text may not be longer than it.
  cascada::attention<float>& of(const attention_input& layer, index_t tokens);

  // Window, scale and cap.
  using key = std::tuple<std::optional<index_t>, std::optional<float>, std::optional<float>>;

  cascada::attention_options               options_;
  backend                                  where_;
  std::map<key, cascada::attention<float>> all_;
};

}  // namespace engine
