#pragma once
// Where attention's clusters come from: the cascade of a layer's rows, or a baseline.

#include <cstdint>
#include <span>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "engine/attention_input.hpp"
#include "engine/features.hpp"
#include "engine/random_selection.hpp"

namespace engine {

enum class selection_source {
  none,       // the mode asks for no representatives
  cascade,    // the library's, inherited from layer to layer
  random,     // as many as the cascade keeps of the same rows, drawn at random, nearest assignment
  positions,  // one cluster of all tokens: leaves by order are blocks of consecutive positions
};

/// The representatives of one forward pass, layer after layer: one set, or one per KV head for features::keys.
class far_selection {
 public:
  far_selection(selection_source source, features rows, const cascada::selection_options& options, std::uint64_t seed,
                backend where)
      : source_(source), features_(rows), options_(options), seed_(seed), where_(where) {}

  /// The sets of the next layer, valid until the next call.
  std::span<const cascada::representatives> next(const attention_input& layer);

  /// Time that selecting took so far; of random sets, without finding out their size.
  double seconds() const { return seconds_; }
  /// r / T, mean over layers; 0 where nothing is selected.
  double mean_share() const { return layers_ == 0 ? 0.0 : share_sum_ / layers_; }
  /// Whether some layer inherited a set.
  bool inherits() const { return source_ == selection_source::cascade && inherited_ > 0; }
  /// Gram operations saved, and overlap with the layer before: means over the sets that were inherited, 0 without.
  double mean_savings() const { return inherited_ == 0 ? 0.0 : savings_sum_ / inherited_; }
  double mean_jaccard() const { return inherited_ == 0 ? 0.0 : jaccard_sum_ / inherited_; }

 private:
  void step(const attention_input& layer);

  /// In place of the sets that the cascade kept, random ones of the same size.
  void draw(const attention_input& layer);

  cascada::representatives all_positions(index_t tokens);

  selection_source                      source_;
  features                              features_;
  cascada::selection_options            options_;
  std::uint64_t                         seed_;
  backend                               where_;
  std::vector<cascada::cascade<float>>  cascades_;  // of each set
  std::vector<random_selection>         random_;    // of each set
  std::vector<index_t>                  zeros_;
  index_t                               count_ = 0;
  std::vector<cascada::representatives> kept_;
  double                                seconds_ = 0, share_sum_ = 0, savings_sum_ = 0, jaccard_sum_ = 0;
  int                                   layers_ = 0, inherited_ = 0;
};

}  // namespace engine
