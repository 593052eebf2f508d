#pragma once
// A run's numbers and their form in report.json.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/cascade_study.hpp"
#include "engine/setting_reader.hpp"

namespace engine {

/// One attention mode's result; for random representatives the mean over seeds.
struct mode_result {
  std::string           name;
  float                 threshold         = 0;
  double                share             = 0;  // r / T, mean over layers
  double                perplexity        = 0;
  double                perplexity_ratio  = 0;  // to dense
  double                divergence        = 0;  // KL of the next token's distribution from dense's, nats
  double                top1_agreement    = 0;  // with dense
  double                keys              = 0;  // that were read, of those that dense attention reads
  double                closed_mass       = 0;  // share of the softmax left to closed leaves
  double                selection_seconds = 0;
  double                attention_seconds = 0;
  std::optional<double> savings           = {};  // Gram operations saved, mean over inherited sets
  std::optional<double> jaccard           = {};  // the same sets' overlap with the layer before
  std::vector<double>   perplexities      = {};  // of each seed
};

struct report {
  nlohmann::json           settings  = {};
  index_t                  tokens    = 0;
  float                    threshold = 0;
  std::vector<layer_study> layers    = {};
  std::vector<mode_result> modes     = {};
  // Other thresholds: the layers of each, and the modes that select.
  std::vector<std::pair<float, std::vector<layer_study>>> sweep_layers = {};
  std::vector<mode_result>                                sweep        = {};
};

/// Means over all layers, of one sequence or of several, but a sequence's first, which has nothing to inherit.
struct cascade_summary {
  double share = 0, additions = 0, removals = 0, jaccard = 0, least_jaccard = 1;
  double savings_exact = 0, savings_paper_mode = 0, savings_cross_gram_only = 0, savings_full_selection = 0;
  bool   sets_equal = true;  // the first layers included
};

inline cascade_summary summarise(const std::vector<layer_study>& layers) {
  cascade_summary mean;
  const auto      inherits = [](const layer_study& layer) { return layer.exact.jaccard.has_value(); };
  const auto      count    = static_cast<double>(std::count_if(layers.begin(), layers.end(), inherits));
  for (const layer_study& layer : layers) {
    const auto& [index, set, exact, paper, full, same_set, same_rep] = layer;
    mean.sets_equal &= same_set;
    if (!inherits(layer)) continue;
    mean.share += static_cast<double>(exact.representatives) / exact.tokens / count;
    mean.additions += exact.additions / count;
    mean.removals += exact.removals / count;
    mean.jaccard += *exact.jaccard / count;
    mean.least_jaccard = std::min(mean.least_jaccard, *exact.jaccard);
    mean.savings_exact += exact.savings() / count;
    mean.savings_paper_mode += paper.savings() / count;
    mean.savings_cross_gram_only += paper.savings_cross_gram_only() / count;
    mean.savings_full_selection += full.savings() / count;
  }
  return mean;
}

/// Whether every cascade of the run, at every threshold, kept the sets of full selection.
inline bool sets_equal(const report& run) {
  const auto equal = [](const auto& sweep) { return summarise(sweep.second).sets_equal; };
  return summarise(run.layers).sets_equal && std::all_of(run.sweep_layers.begin(), run.sweep_layers.end(), equal);
}

inline nlohmann::json to_json(const cascada::gram_operations& gram) {
  return {{"selection", gram.selection}, {"inherited", gram.inherited},   {"validation", gram.validation},
          {"orphans", gram.orphans},     {"cross_gram", gram.cross_gram}, {"total", gram.total()}};
}

template <class Value>
nlohmann::json to_json(const std::optional<Value>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

/// Layer 0 selects in full: overlap and cross-Gram savings are null there.
inline nlohmann::json to_json(const layer_study& layer) {
  const bool inherits = layer.exact.jaccard.has_value();
  return {
      {"layer", layer.layer},
      {"set", layer.set},
      {"representatives", layer.exact.representatives},
      {"additions", layer.exact.additions},
      {"removals", layer.exact.removals},
      {"inherited", layer.exact.inherited},
      {"orphans", layer.exact.orphans},
      {"jaccard", to_json(layer.exact.jaccard)},
      {"gram_operations", to_json(layer.exact.gram)},
      {"gram_operations_paper_mode", to_json(layer.paper.gram)},
      {"pairs_evaluated", layer.exact.pairs_evaluated},
      {"savings_exact", layer.exact.savings()},
      {"savings_paper_mode", layer.paper.savings()},
      {"savings_cross_gram_only", inherits ? nlohmann::json(layer.paper.savings_cross_gram_only()) : nlohmann::json()},
      {"savings_full_selection", layer.full.savings()},
      {"set_equals_full_selection", layer.set_equals_full_selection},
      {"paper_mode_equals_exact", layer.paper_mode_equals_exact}};
}

inline nlohmann::json to_json(const mode_result& mode) {
  nlohmann::json out = {{"name", mode.name},
                        {"threshold", decimal(mode.threshold)},
                        {"representatives_share", mode.share},
                        {"perplexity", mode.perplexity},
                        {"perplexity_ratio", mode.perplexity_ratio},
                        {"divergence", mode.divergence},
                        {"top1_agreement", mode.top1_agreement},
                        {"share_of_dense_keys", mode.keys},
                        {"closed_mass", mode.closed_mass},
                        {"selection_seconds", mode.selection_seconds},
                        {"attention_seconds", mode.attention_seconds},
                        {"savings", to_json(mode.savings)},
                        {"jaccard", to_json(mode.jaccard)}};
  if (!mode.perplexities.empty()) out["perplexity_of_each_seed"] = mode.perplexities;
  return out;
}

inline nlohmann::json to_json(const cascade_summary& mean) {
  return {{"representatives_share", mean.share},
          {"additions", mean.additions},
          {"removals", mean.removals},
          {"jaccard", mean.jaccard},
          {"least_jaccard", mean.least_jaccard},
          {"savings_exact", mean.savings_exact},
          {"savings_paper_mode", mean.savings_paper_mode},
          {"savings_cross_gram_only", mean.savings_cross_gram_only},
          {"savings_full_selection", mean.savings_full_selection},
          {"sets_equal_full_selection", mean.sets_equal}};
}

inline nlohmann::json to_json(const report& run) {
  nlohmann::json out = {{"tokens", run.tokens},
                        {"threshold", decimal(run.threshold)},
                        {"settings", run.settings},
                        {"full_gram_operations", cascada::full_gram_operations(run.tokens)},
                        {"mean_after_layer_0", to_json(summarise(run.layers))},
                        {"layers", nlohmann::json::array()},
                        {"modes", nlohmann::json::array()},
                        {"sweep_means_after_layer_0", nlohmann::json::array()},
                        {"sweep", nlohmann::json::array()}};
  for (const layer_study& layer : run.layers) out["layers"].push_back(to_json(layer));
  for (const mode_result& mode : run.modes) out["modes"].push_back(to_json(mode));
  for (const auto& [threshold, layers] : run.sweep_layers) {
    out["sweep_means_after_layer_0"].push_back(to_json(summarise(layers)));
    out["sweep_means_after_layer_0"].back()["threshold"] = decimal(threshold);
  }
  for (const mode_result& mode : run.sweep) out["sweep"].push_back(to_json(mode));
  return out;
}

}  // namespace engine
