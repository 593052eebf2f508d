#pragma once
// One mode's attention for a sequence that grows: keys and values, representatives and leaves, layer by layer.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cascada/cpu/attention/attention.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "engine/attention_input.hpp"
#include "engine/attention_mode.hpp"
#include "engine/error.hpp"
#include "engine/layer_attention.hpp"
#include "engine/progress.hpp"
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
  void operator()(const attention_input& next, matrix& out) {
    const auto index = static_cast<std::size_t>(next.layer);
    if (layers_.size() == index) layers_.emplace_back(cascada::growing_selection<float>(mode_.selection, where_));
    layer& own = layers_[index];
    own.keys.append(next.keys), own.values.append(next.values);
    if (mode_.source == selection_source::cascade) select(next.residual, own, index == 0 ? nullptr : &own - 1);

    const stopwatch                  attending;
    const cascada::representatives   kept[] = {own.selection.kept()};
    const cascada::strided_kv<float> kv     = {own.keys.heads(next.kv_heads), own.values.heads(next.kv_heads)};
    auto&                            attention = attention_.of(next, own.state.tokens() + rows_of(next.queries));
    require_ok(attention.extend(own.state, heads(next.queries, next.heads), kv, kept, heads(out, next.heads)),
               "attention");
    costs_.attention_seconds += attending.seconds();
    const auto&        report = attention.report();
    const std::int64_t bytes  = std::int64_t{kv.key_dim() + kv.value_dim()} * std::int64_t{sizeof(float)};
    costs_.bytes += (report.near_keys + report.leaves + report.computed) * bytes;
    costs_.dense_bytes += report.dense_keys * bytes;
  }

  /// Tokens that have gone through all layers.
  index_t tokens() const { return layers_.empty() ? 0 : layers_.back().state.tokens(); }

  /// Forgets the tokens from `end` on; where what their tile opened is no longer known, all of the tile. Returns how
  /// many are left: the sequence goes on from there.
  index_t truncate(index_t end) {
    if (end >= tokens()) return tokens();
    if (layers_.front().state.truncate(end) == cascada::status::unsupported) end -= end % mode_.options.tile;
    for (layer& own : layers_) {
      const index_t selected = std::min(own.selection.kept().tokens(), end);
      require_ok(own.state.truncate(end), "attention");
      require_ok(own.selection.truncate(selected), "selection");
      own.keys.keep_first(end), own.values.keep_first(end);
      if (mode_.source == selection_source::cascade) own.unselected.keep_first(end - selected);
    }
    return end;
  }

  const growing_costs& costs() const { return costs_; }

 private:
  struct layer {
    explicit layer(cascada::growing_selection<float> begun) : selection(std::move(begun)) {}

    row_store                         keys, values;
    row_store                         unselected;  // rows of the residual stream that wait for the rest of their chunk
    cascada::growing_selection<float> selection;
    cascada::attention_state<float>   state;
  };

  /// Whole chunks at a time: attention asks for no more, and one token costs as much as some dozens.
  void select(const matrix& residual, layer& own, const layer* below) {
    const stopwatch selecting;
    own.unselected.append(residual);
    const index_t count = own.unselected.rows() - own.unselected.rows() % mode_.options.chunk;
    if (count > 0) {
      const auto before    = static_cast<std::size_t>(own.selection.kept().tokens());
      const auto inherited = below ? below->selection.kept().rep.subspan(before) : std::span<const index_t>();
      require_ok(own.selection.extend(own.unselected.first(count), inherited), "selection");
      own.unselected.drop_first(count);
    }
    costs_.selection_seconds += selecting.seconds();
  }

  attention_mode            mode_;
  backend                   where_;
  layer_attention           attention_;
  std::vector<layer>        layers_;
  growing_costs             costs_;
};

}  // namespace engine
