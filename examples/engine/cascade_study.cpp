#include "engine/cascade_study.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/error.hpp"

namespace engine {
namespace {

bool same(std::span<const index_t> a, std::span<const index_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

void cascade_study::operator()(const attention_input& layer) {
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

}  // namespace engine
