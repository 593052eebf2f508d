#pragma once
// Where attention's clusters come from: the cascade of a layer's rows, of each KV head's keys, or a baseline.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cascada/cascade.hpp"
#include "cascada/eigen.hpp"
#include "engine/attention_input.hpp"
#include "engine/error.hpp"
#include "engine/features.hpp"
#include "engine/random_selection.hpp"

namespace engine {

enum class selection_source {
  none,       // the mode asks for no representatives
  cascade,    // the library's, inherited from layer to layer
  random,     // as many as the cascade has, drawn at random, nearest assignment
  positions,  // one cluster of all tokens: leaves by order are blocks of consecutive positions
};

/// The representatives of one forward pass, layer after layer: one set, or one per KV head for features::keys.
class far_selection {
 public:
  /// `counts`: of random representatives, how many each layer has.
  far_selection(selection_source source, features rows, const cascada::selection_options& options,
                std::span<const index_t> counts, std::uint64_t seed, backend where)
      : source_(source), features_(rows), options_(options), counts_(counts), where_(where), random_(seed) {}

  /// The sets of the next layer, valid until the next call.
  std::span<const cascada::representatives> next(const attention_input& layer) {
    kept_.clear();
    const auto T = rows_of(layer.residual);
    switch (source_) {
      case selection_source::none: break;
      case selection_source::cascade: step(layer); break;
      case selection_source::random:
        random_.draw(rows(layer, features_), counts_[static_cast<std::size_t>(layer.layer)], where_);
        kept_.push_back(random_.kept());
        break;
      case selection_source::positions:
        zeros_.assign(static_cast<std::size_t>(T), 0);
        count_ = T;
        kept_.push_back({std::span(zeros_).first(1), zeros_, std::span(&count_, 1)});
        break;
    }
    for (const auto& kept : kept_)
      share_sum_ += static_cast<double>(kept.count()) / T / static_cast<double>(kept_.size());
    ++layers_;
    return kept_;
  }

  /// r / T, mean over layers; 0 without representatives.
  double mean_share() const { return layers_ == 0 ? 0.0 : share_sum_ / layers_; }
  /// Means over layers that had one before; 0 without them.
  double mean_savings() const { return inherited_ == 0 ? 0.0 : savings_sum_ / inherited_; }
  double mean_jaccard() const { return inherited_ == 0 ? 0.0 : jaccard_sum_ / inherited_; }

 private:
  void step(const attention_input& layer) {
    const bool    by_head = features_ == features::keys;
    const index_t sets    = by_head ? layer.kv_heads : 1;
    while (static_cast<index_t>(cascades_.size()) < sets) cascades_.emplace_back(options_, where_);
    for (index_t h = 0; h < sets; ++h) {
      auto x = rows(layer, features_);
      if (by_head) x.cols /= layer.kv_heads, x.data += std::ptrdiff_t{h} * x.cols;
      auto& cascade = cascades_[static_cast<std::size_t>(h)];
      require_ok(cascade.step(x), "cascade");
      kept_.push_back(cascade.kept());
      if (!cascade.report().jaccard) continue;
      savings_sum_ += cascade.report().savings();
      jaccard_sum_ += *cascade.report().jaccard;
      ++inherited_;
    }
  }

  selection_source                      source_;
  features                              features_;
  cascada::selection_options            options_;
  std::span<const index_t>              counts_;
  backend                               where_;
  std::vector<cascada::cascade<float>>  cascades_;
  random_selection                      random_;
  std::vector<index_t>                  zeros_;
  index_t                               count_ = 0;
  std::vector<cascada::representatives> kept_;
  double                                share_sum_ = 0, savings_sum_ = 0, jaccard_sum_ = 0;
  int                                   layers_ = 0, inherited_ = 0;
};

}  // namespace engine
