#pragma once
// One mode's attention for a whole forward pass: representatives for each layer, then Cascada's attention.

#include <cstdint>

#include "engine/attention_mode.hpp"
#include "engine/far_selection.hpp"
#include "engine/layer_attention.hpp"
#include "engine/progress.hpp"

namespace engine {

class mode_attention {
 public:
  /// `seed`: of random representatives.
  mode_attention(const attention_mode& mode, std::uint64_t seed, const backend& where)
      : selection_(mode.source, mode.rows, mode.selection, seed, where), attention_(mode.options, where) {}

  void operator()(const attention_input& layer, matrix& out) {
    const auto      kept = selection_.next(layer);
    const stopwatch attending;
    const auto&     report = attention_(layer, kept, out);
    attention_seconds_ += attending.seconds();
    keys_sum_ += report.share_of_dense();
    mass_sum_ += report.closed_mass();
    ++layers_;
  }

  const far_selection& selection() const { return selection_; }
  double               attention_seconds() const { return attention_seconds_; }
  /// Keys that were read, of those that dense attention reads; mean over layers.
  double mean_share_of_dense() const { return layers_ == 0 ? 0.0 : keys_sum_ / layers_; }
  /// Share of the softmax left to closed leaves; mean over layers.
  double mean_closed_mass() const { return layers_ == 0 ? 0.0 : mass_sum_ / layers_; }

 private:
  far_selection   selection_;
  layer_attention attention_;
  double          attention_seconds_ = 0, keys_sum_ = 0, mass_sum_ = 0;
  int             layers_ = 0;
};

}  // namespace engine
