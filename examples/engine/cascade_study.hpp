#pragma once
// The cascade layer by layer: exact mode, paper mode and full selection side by side on the same rows.

#include <algorithm>
#include <vector>

#include "cascada/cascade.hpp"
#include "cascada/select.hpp"
#include "engine/error.hpp"
#include "engine/features.hpp"

namespace engine {

struct layer_study {
  cascada::selection_report exact, paper, full;
  bool                      set_equals_full_selection;  // exact and paper mode, compared with full selection
  bool                      paper_mode_equals_exact;    // the same representative for every token
};

class cascade_study {
 public:
  cascade_study(features rows, float threshold, const backend& where)
      : features_(rows),
        exact_({.threshold = threshold}, where),
        paper_({.threshold = threshold, .validate = cascada::validation::cross_gram}, where),
        full_({.threshold = threshold}, where) {}

  void operator()(const attention_input& layer) {
    const auto x = rows(layer, features_);
    require_ok(exact_.step(x), "cascade");
    require_ok(paper_.step(x), "cascade in paper mode");
    require_ok(full_(x), "full selection");
    const auto exact = exact_.kept(), paper = paper_.kept(), full = full_.kept();
    layers_.push_back({
        .exact                     = exact_.report(),
        .paper                     = paper_.report(),
        .full                      = full_.report(),
        .set_equals_full_selection = same(exact.indices, full.indices) && same(paper.indices, full.indices),
        .paper_mode_equals_exact   = same(exact.rep, paper.rep),
    });
  }

  const std::vector<layer_study>& layers() const { return layers_; }

  /// r of each layer.
  std::vector<index_t> counts() const {
    std::vector<index_t> out;
    for (const layer_study& layer : layers_) out.push_back(layer.exact.representatives);
    return out;
  }

 private:
  static bool same(std::span<const index_t> a, std::span<const index_t> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

  features                 features_;
  cascada::cascade<float>  exact_, paper_;
  cascada::selector<float> full_;
  std::vector<layer_study> layers_;
};

}  // namespace engine
