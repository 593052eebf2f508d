#include "engine/far_selection.hpp"

#include <cstddef>

#include "engine/error.hpp"
#include "engine/progress.hpp"

namespace engine {

std::span<const cascada::representatives> far_selection::next(const attention_input& layer) {
  kept_.clear();
  switch (source_) {
    case selection_source::none: break;
    case selection_source::cascade: step(layer); break;
    case selection_source::random: step(layer), draw(layer); break;
    case selection_source::positions: kept_.push_back(all_positions(rows_of(layer.residual))); return kept_;
  }
  for (const auto& kept : kept_)
    share_sum_ += static_cast<double>(kept.count()) / kept.tokens() / static_cast<double>(kept_.size());
  ++layers_;
  return kept_;
}

void far_selection::step(const attention_input& layer) {
  const stopwatch since;
  const index_t   sets = selections(layer, features_);
  while (static_cast<index_t>(cascades_.size()) < sets) cascades_.emplace_back(options_, where_);
  for (index_t h = 0; h < sets; ++h) {
    auto& cascade = cascades_[static_cast<std::size_t>(h)];
    require_ok(cascade.step(rows(layer, features_, h)), "cascade");
    kept_.push_back(cascade.kept());
    if (!cascade.report().jaccard) continue;
    savings_sum_ += cascade.report().savings();
    jaccard_sum_ += *cascade.report().jaccard;
    ++inherited_;
  }
  if (source_ == selection_source::cascade) seconds_ += since.seconds();
}

void far_selection::draw(const attention_input& layer) {
  const stopwatch since;
  for (std::size_t h = 0; h < kept_.size(); ++h) {
    // Runs count their seeds from 1, 2, ..: the heads' are far from those.
    if (random_.size() == h) random_.emplace_back(seed_ + (std::uint64_t{h} << 32));
    random_[h].draw(rows(layer, features_, static_cast<index_t>(h)), kept_[h].count(), where_);
  }
  for (std::size_t h = 0; h < kept_.size(); ++h) kept_[h] = random_[h].kept();
  seconds_ += since.seconds();
}

cascada::representatives far_selection::all_positions(index_t tokens) {
  zeros_.assign(static_cast<std::size_t>(tokens), 0);
  count_ = tokens;
  return {std::span(zeros_).first(1), zeros_, std::span(&count_, 1)};
}

}  // namespace engine
