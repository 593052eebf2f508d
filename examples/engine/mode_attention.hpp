#pragma once
// One mode's attention for a whole forward pass: representatives for each layer, then Cascada's attention.

#include <cstdint>
#include <span>
#include <vector>

#include "cascada/attention.hpp"
#include "cascada/cascade.hpp"
#include "engine/attention_mode.hpp"
#include "engine/error.hpp"
#include "engine/features.hpp"
#include "engine/progress.hpp"
#include "engine/random_selection.hpp"

namespace engine {

class mode_attention {
 public:
  /// `counts`: for random representatives, how many each layer has.
  mode_attention(const attention_mode& mode, features rows, float threshold, std::span<const index_t> counts,
                 std::uint64_t seed, backend where)
      : source_(mode.source),
        features_(rows),
        counts_(counts),
        where_(where),
        cascade_({.threshold = threshold}, where),
        random_(seed),
        attention_(mode.options, where) {}

  void operator()(const attention_input& layer, matrix& out) {
    const stopwatch selecting;
    const auto      kept = select(layer);
    if (source_ != selection_source::none) selection_seconds_ += selecting.seconds();

    const stopwatch attending;
    require_ok(attention_(heads(layer.queries, layer.heads), layer.kv(),
                          source_ == selection_source::none ? std::span<const cascada::representatives>{}
                                                            : std::span(&kept, 1),
                          heads(out, layer.heads)),
               "attention");
    attention_seconds_ += attending.seconds();
    share_sum_ += source_ == selection_source::none ? 0.0 : static_cast<double>(kept.count()) / kept.tokens();
    ++layers_;
  }

  double selection_seconds() const { return selection_seconds_; }
  double attention_seconds() const { return attention_seconds_; }
  /// r / T, mean over layers; 0 for a mode without representatives.
  double mean_share() const { return layers_ == 0 ? 0.0 : share_sum_ / layers_; }

 private:
  cascada::representatives select(const attention_input& layer) {
    const auto x = rows(layer, features_);
    switch (source_) {
      case selection_source::none: return {};
      case selection_source::cascade: require_ok(cascade_.step(x), "cascade"); return cascade_.kept();
      case selection_source::random:
        random_.draw(x, counts_[static_cast<std::size_t>(layer.layer)], where_);
        return random_.kept();
    }
    return {};
  }

  selection_source          source_;
  features                  features_;
  std::span<const index_t>  counts_;
  backend                   where_;
  cascada::cascade<float>   cascade_;
  random_selection          random_;
  cascada::attention<float> attention_;
  double                    selection_seconds_ = 0, attention_seconds_ = 0, share_sum_ = 0;
  int                       layers_ = 0;
};

}  // namespace engine
