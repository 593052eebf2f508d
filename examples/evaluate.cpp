// cascada-evaluate: runs a decoder on text with several kinds of attention and compares them with dense attention.

#include <cstdio>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/arguments.hpp"
#include "engine/cascade_study.hpp"
#include "engine/decoder.hpp"
#include "engine/evaluate.hpp"
#include "engine/file.hpp"
#include "engine/mode_attention.hpp"
#include "engine/report.hpp"
#include "engine/tables.hpp"

using namespace engine;

namespace {

constexpr const char* usage = R"(cascada-evaluate --model DIR --tokens FILE [options]

  --model DIR          folder with config.json and safetensors (Llama family, GPT-2, GPT-J, OPT)
  --tokens FILE        token ids, one per line
  --length N           tokens to read (2048)
  --modes A,B,...      what to compare (%s)
  --sweep X,Y,...      more thresholds for the modes that select, or none (%s)
  --threads N          threads (all of the machine)
  --seed N             first seed of the five of mode random (1)
  --output DIR         where report.json goes (build/report)

What the modes share:
)";

constexpr const char* default_sweep = "0.5,0.7,0.9";

struct settings {
  std::string                 model, tokens, output;
  index_t                     length;
  attention_mode              dense;  // the yardstick
  std::vector<attention_mode> modes;
  std::vector<float>          sweep;
  index_t                     threads;
  std::uint64_t               seed;
};

settings read_settings(const arguments& given) {
  const auto shared = settings_of(given);
  const auto cores  = threads::usable();
  settings   s{.model   = given.text("--model"),
               .tokens  = given.text("--tokens"),
               .output  = given.text("--output", "build/report"),
               .length  = given.integer("--length", 2048, 2),
               .dense   = mode_named("dense", decoder_modes, shared),
               .modes   = modes_named(given.text("--modes", names_of(decoder_modes)), decoder_modes, shared),
               .sweep   = given.thresholds("--sweep", default_sweep),
               .threads = given.integer("--threads", cores, 1, threads::most),
               .seed    = static_cast<std::uint64_t>(given.integer("--seed", 1, 0))};
  std::erase(s.sweep, s.dense.selection.threshold);
  return s;
}

/// Runs the model once for each mode.
class comparison {
 public:
  comparison(const settings& s, backend where)
      : settings_(s), where_(where), tokens_(read_tokens(s.tokens, s.length)), model_(s.model, where) {
    warn_of_unused(model_.unused());
  }

  report run() {
    report out{.settings  = settings_of(settings_.dense),
               .tokens    = settings_.length,
               .threshold = settings_.dense.selection.threshold};
    out.settings["threads"] = settings_.threads;
    out.settings["seed"]    = settings_.seed;
    const mode_result dense = run_dense(out);
    for (const attention_mode& mode : settings_.modes)
      out.modes.push_back(mode.name == "dense" ? dense : run_mode(mode));
    for (const float threshold : settings_.sweep)
      for (attention_mode mode : settings_.modes) {
        if (mode.source != selection_source::cascade) continue;
        mode.selection.threshold = threshold;
        out.sweep.push_back(run_mode(mode));
      }
    return out;
  }

 private:
  static constexpr std::uint64_t random_seeds = 5;

  /// Dense attention is the yardstick; its activations are what the table of layers is about.
  mode_result run_dense(report& out) {
    const attention_mode&      dense = settings_.dense;
    std::vector<cascade_study> studies;
    studies.emplace_back(dense.rows, dense.selection.threshold, where_);
    for (const float threshold : settings_.sweep) studies.emplace_back(dense.rows, threshold, where_);
    const mode_result result = run_once(dense, 0, [&](const attention_input& layer) {
      for (cascade_study& study : studies) study(layer);
    });
    out.layers               = studies.front().layers();
    for (std::size_t i = 0; i < settings_.sweep.size(); ++i)
      out.sweep_layers.emplace_back(settings_.sweep[i], studies[i + 1].layers());
    return result;
  }

  mode_result run_mode(const attention_mode& mode) {
    if (mode.source != selection_source::random) return run_once(mode, 0, [](const attention_input&) {});
    mode_result mean{.name = mode.name, .threshold = mode.selection.threshold};
    for (std::uint64_t i = 0; i < random_seeds; ++i) {
      const mode_result one = run_once(mode, settings_.seed + i, [](const attention_input&) {});
      for (const auto value :
           {&mode_result::share, &mode_result::perplexity, &mode_result::perplexity_ratio, &mode_result::divergence,
            &mode_result::top1_agreement, &mode_result::keys, &mode_result::closed_mass,
            &mode_result::selection_seconds, &mode_result::attention_seconds})
        mean.*value += one.*value / random_seeds;
      mean.perplexities.push_back(one.perplexity);
    }
    return mean;
  }

  template <class Observe>
  mode_result run_once(const attention_mode& mode, std::uint64_t seed, Observe&& observe) {
    const progress shown(shown_name(mode, seed), model_.layers());
    mode_attention attend(mode, seed, where_);
    const matrix   hidden = model_.forward(tokens_, [&](const attention_input& layer, matrix& out) {
      shown.step(layer.layer);
      observe(layer);
      attend(layer, out);
    });
    if (!dense_) dense_ = hidden;
    const auto found = compare_predictions(hidden, *dense_, model_.output(), tokens_, where_);
    if (!dense_perplexity_) dense_perplexity_ = found.perplexity;
    shown.done();
    const far_selection& selection = attend.selection();
    const auto inherited = [&](double mean) { return selection.inherits() ? std::optional(mean) : std::nullopt; };
    return {.name              = mode.name,
            .threshold         = mode.selection.threshold,
            .share             = selection.mean_share(),
            .perplexity        = found.perplexity,
            .perplexity_ratio  = found.perplexity / *dense_perplexity_,
            .divergence        = found.divergence,
            .top1_agreement    = found.agreement,
            .keys              = attend.mean_share_of_dense(),
            .closed_mass       = attend.mean_closed_mass(),
            .selection_seconds = selection.seconds(),
            .attention_seconds = attend.attention_seconds(),
            .savings           = inherited(selection.mean_savings()),
            .jaccard           = inherited(selection.mean_jaccard())};
  }

  std::string shown_name(const attention_mode& mode, std::uint64_t seed) const {
    if (mode.source == selection_source::random) return mode.name + ", seed " + std::to_string(seed);
    const float threshold = mode.selection.threshold;
    if (threshold == settings_.dense.selection.threshold) return mode.name;
    return mode.name + ", tau " + decimal(threshold).dump();
  }

  const settings&       settings_;
  backend               where_;
  std::vector<index_t>  tokens_;
  decoder               model_;
  std::optional<matrix> dense_;  // final hidden states
  std::optional<double> dense_perplexity_;
};

int evaluate(int count, char** values) {
  auto known = setting_options();
  known.merge(std::set<std::string>{"--model", "--tokens", "--length", "--modes", "--sweep", "--threads", "--seed",
                                    "--output"});
  const arguments given(count, values, known);
  if (given.help()) {
    std::printf(usage, names_of(decoder_modes).c_str(), default_sweep);
    print_settings(command_line, stdout);
    return 0;
  }
  const settings s = read_settings(given);
  threads        pool(s.threads);
  comparison     compared(s, pool.where());
  make_folder(s.output);
  require_writable(s.output + "/report.json");
  const report run = compared.run();
  print_layers(run);
  print_modes(run);
  write_file(s.output + "/report.json", to_json(run).dump(2) + "\n");
  return sets_equal(run) ? 0 : 1;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-evaluate", [&] { return evaluate(count, values); });
}
