#pragma once
// The cascade layer by layer: exact mode, paper mode and full selection side by side on the same rows.

#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "engine/features.hpp"

namespace engine {

struct layer_study {
  index_t                   layer, set;  // the selections of a layer: one, or one per KV head
  cascada::selection_report exact, paper, full;
  bool                      set_equals_full_selection;  // exact and paper mode, compared with full selection
  bool                      paper_mode_equals_exact;    // the same representative for every token
};

class cascade_study {
 public:
  cascade_study(features rows, float threshold, const backend& where)
      : features_(rows), threshold_(threshold), where_(where) {}

  void operator()(const attention_input& layer);

  /// Layer by layer, set by set.
  const std::vector<layer_study>& layers() const { return layers_; }

 private:
  struct three_ways {
    cascada::cascade<float>  exact, paper;
    cascada::selector<float> full;

    three_ways(float threshold, const backend& where)
        : exact({.threshold = threshold}, where),
          paper({.threshold = threshold, .validate = cascada::validation::cross_gram}, where),
          full({.threshold = threshold}, where) {}
  };

  features                 features_;
  float                    threshold_;
  backend                  where_;
  std::vector<three_ways>  sets_;
  std::vector<layer_study> layers_;
};

}  // namespace engine
