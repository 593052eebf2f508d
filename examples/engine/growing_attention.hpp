#pragma once
// One mode's attention for a sequence that grows: keys and values, representatives and leaves, layer by layer.

#include <cstdint>
#include <span>
#include <vector>

#include "cascada/cpu/attention/attention.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "engine/attention_input.hpp"
#include "engine/attention_mode.hpp"
#include "engine/error.hpp"
#include "engine/layer_attention.hpp"
#include "engine/page_attention.hpp"
#include "engine/row_store.hpp"

namespace engine {

/// Sums over layers and calls. Bytes: keys and values that attention reads, those of leaves and open leaves included.
struct growing_costs {
  double       selection_seconds = 0, attention_seconds = 0;
  std::int64_t bytes = 0, dense_bytes = 0;  // this mode's, and those that dense attention reads in its place

  friend growing_costs operator-(const growing_costs& a, const growing_costs& b) {
    return {a.selection_seconds - b.selection_seconds, a.attention_seconds - b.attention_seconds, a.bytes - b.bytes,
            a.dense_bytes - b.dense_bytes};
  }
};

/// For decoder::forward, piece after piece. The mode is causal; what it selects, it selects on the residual stream.
class growing_attention {
 public:
  growing_attention(const attention_mode& mode, const backend& where)
      : mode_(mode), where_(where), attention_(mode.options, where) {
    const bool cascades = mode.source == selection_source::cascade && mode.rows == features::residual;
    if (!cascades && mode.source != selection_source::none)
      throw bad_input("mode " + mode.name + " cannot grow: it does not select by the cascade of the residual stream");
  }

  /// The next tokens of a layer.
  void operator()(const attention_input& next, matrix& out);

  /// Tokens that have gone through all layers.
  index_t tokens() const { return layers_.empty() ? 0 : layers_.back().keys.rows(); }

  /// Forgets the tokens from `end` on; where what their tile opened is no longer known, all of the tile. Returns how
  /// many are left: the sequence goes on from there.
  index_t truncate(index_t end);

  const growing_costs& costs() const { return costs_; }

 private:
  struct layer {
    explicit layer(cascada::growing_selection<float> begun) : selection(std::move(begun)) {}

    row_store                         keys, values;
    row_store                         unselected;  // rows of the residual stream that wait for the rest of their chunk
    cascada::growing_selection<float> selection;
    cascada::attention_state<float>   state;
    page_bounds                       pages;
  };

  /// Whole chunks at a time: attention asks for no more, and one token costs as much as some dozens.
  void select(const matrix& residual, layer& own, const layer* below);

  /// By pages, which are for steps of one token: more are attended densely.
  void attend_pages(const attention_input& next, const cascada::strided_kv<float>& kv, layer& own, matrix& out);

  attention_mode     mode_;
  backend            where_;
  layer_attention    attention_;
  std::vector<layer> layers_;
  growing_costs      costs_;
};

}  // namespace engine
