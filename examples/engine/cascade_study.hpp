#pragma once
// The cascade layer by layer: exact mode, paper mode and full selection side by side on the same rows.

#include <algorithm>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "engine/error.hpp"
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

  void operator()(const attention_input& layer) {
    for (index_t set = 0; set < selections(layer, features_); ++set) {
      if (static_cast<index_t>(sets_.size()) == set) sets_.emplace_back(threshold_, where_);
      auto& [exact_cascade, paper_cascade, selector] = sets_[static_cast<std::size_t>(set)];
      const auto x                                   = rows(layer, features_, set);
      require_ok(exact_cascade.step(x), "cascade");
      require_ok(paper_cascade.step(x), "cascade in paper mode");
      require_ok(selector(x), "full selection");
      const auto exact = exact_cascade.kept(), paper = paper_cascade.kept(), full = selector.kept();
      layers_.push_back({
          .layer                     = layer.layer,
          .set                       = set,
          .exact                     = exact_cascade.report(),
          .paper                     = paper_cascade.report(),
          .full                      = selector.report(),
          .set_equals_full_selection = same(exact.indices, full.indices) && same(paper.indices, full.indices),
          .paper_mode_equals_exact   = same(exact.rep, paper.rep),
      });
    }
  }

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

  static bool same(std::span<const index_t> a, std::span<const index_t> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

  features                 features_;
  float                    threshold_;
  backend                  where_;
  std::vector<three_ways>  sets_;
  std::vector<layer_study> layers_;
};

}  // namespace engine
