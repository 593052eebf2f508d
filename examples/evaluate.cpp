// cascada-evaluate: runs a decoder on text with several kinds of attention and compares them with dense attention.

#include <cstdio>
#include <optional>
#include <string>
#include <thread>
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

  --model DIR         folder with config.json and safetensors (Llama family, GPT-2, GPT-J, OPT)
  --tokens FILE       token ids, one per line
  --length N          tokens to read (2048)
  --threshold X       Gram threshold tau in (0, 1] (0.8)
  --features NAME     rows that selection sees: residual, normalized or keys (residual)
  --window N          near field behind a chunk, in tokens (128)
  --chunk N           tokens of a chunk (128)
  --budget N          refinement: far tokens a query attends exactly (128)
  --candidates N      refinement: candidates per token of the budget (4)
  --modes A,B,...     what to compare (dense,window,random,literal,near-far,near-far-grouped,near-far-refined)
  --sweep X,Y,...     more thresholds for the modes that select, or none (0.7,0.9)
  --threads N         threads (all of the machine)
  --seed N            first seed of the five of mode random (1)
  --output DIR        where report.json goes (build/report)
)";

struct settings {
  std::string                 model, tokens, output;
  index_t                     length;
  float                       threshold;
  features                    rows;
  std::vector<attention_mode> modes;
  std::vector<float>          sweep;
  index_t                     threads;
  std::uint64_t               seed;
  nlohmann::json              record;  // what the report says about them
};

settings read_settings(const arguments& given) {
  const attention_sizes sizes{.window     = given.integer("--window", 128, 0),
                              .chunk      = given.integer("--chunk", 128, 1),
                              .budget     = given.integer("--budget", 128, 0),
                              .candidates = given.integer("--candidates", 4, 1)};
  const auto            rows  = given.text("--features", "residual");
  const auto            cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  settings              s{.model     = given.text("--model"),
                          .tokens    = given.text("--tokens"),
                          .output    = given.text("--output", "build/report"),
                          .length    = given.integer("--length", 2048, 2),
                          .threshold = given.threshold("--threshold", 0.8f),
                          .rows      = features_named(rows),
                          .modes     = modes_named(given.text("--modes", default_modes), sizes),
                          .sweep     = given.thresholds("--sweep", "0.7,0.9"),
                          .threads   = given.integer("--threads", cores, 1, threads::most),
                          .seed      = static_cast<std::uint64_t>(given.integer("--seed", 1, 0)),
                          .record    = {}};
  std::erase(s.sweep, s.threshold);
  s.record = {{"features", rows},       {"window", sizes.window},         {"chunk", sizes.chunk},
              {"budget", sizes.budget}, {"candidates", sizes.candidates}, {"threads", s.threads},
              {"seed", s.seed}};
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
    report            out{.settings = settings_.record, .tokens = settings_.length, .threshold = settings_.threshold};
    const mode_result dense = run_dense(out);
    for (const attention_mode& mode : settings_.modes)
      out.modes.push_back(mode.name == "dense" ? dense : run_mode(mode, settings_.threshold));
    for (const float threshold : settings_.sweep)
      for (const attention_mode& mode : settings_.modes)
        if (mode.source == selection_source::cascade) out.sweep.push_back(run_mode(mode, threshold));
    return out;
  }

 private:
  static constexpr std::uint64_t random_seeds = 5;

  /// Dense attention is the yardstick; its activations are what the table of layers is about.
  mode_result run_dense(report& out) {
    std::vector<cascade_study> studies;
    studies.emplace_back(settings_.rows, settings_.threshold, where_);
    for (const float threshold : settings_.sweep) studies.emplace_back(settings_.rows, threshold, where_);
    const auto  mode        = mode_named("dense", {});
    mode_result result      = run_once(mode, settings_.threshold, 0, [&](const attention_input& layer) {
      for (cascade_study& study : studies) study(layer);
    });
    dense_                  = last_;
    result.perplexity_ratio = result.top1_agreement = 1;
    out.layers                                      = studies.front().layers();
    counts_                                         = studies.front().counts();
    for (std::size_t i = 0; i < settings_.sweep.size(); ++i)
      out.sweep_layers.emplace_back(settings_.sweep[i], studies[i + 1].layers());
    return result;
  }

  mode_result run_mode(const attention_mode& mode, float threshold) {
    if (mode.source != selection_source::random) return run_once(mode, threshold, 0, [](const attention_input&) {});
    mode_result mean{.name = mode.name, .threshold = threshold};
    for (std::uint64_t i = 0; i < random_seeds; ++i) {
      const mode_result one = run_once(mode, threshold, settings_.seed + i, [](const attention_input&) {});
      mean.share += one.share / random_seeds;
      mean.perplexity += one.perplexity / random_seeds;
      mean.perplexity_ratio += one.perplexity_ratio / random_seeds;
      mean.top1_agreement += one.top1_agreement / random_seeds;
      mean.attention_seconds += one.attention_seconds / random_seeds;
      mean.selection_seconds += one.selection_seconds / random_seeds;
      mean.perplexities.push_back(one.perplexity);
    }
    return mean;
  }

  template <class Observe>
  mode_result run_once(const attention_mode& mode, float threshold, std::uint64_t seed, Observe&& observe) {
    char name[64];
    if (mode.source == selection_source::random)
      std::snprintf(name, sizeof name, "%s, seed %llu", mode.name.c_str(), static_cast<unsigned long long>(seed));
    else if (threshold != settings_.threshold)
      std::snprintf(name, sizeof name, "%s, tau %g", mode.name.c_str(), static_cast<double>(threshold));
    else
      std::snprintf(name, sizeof name, "%s", mode.name.c_str());

    const progress shown(name, model_.layers());
    mode_attention attend(mode, settings_.rows, threshold, counts_, seed, where_);
    const matrix   hidden = model_.forward(tokens_, [&](const attention_input& layer, matrix& out) {
      shown.step(layer.layer);
      observe(layer);
      attend(layer, out);
    });
    last_                 = predict_next(hidden, model_.output(), tokens_, where_);
    shown.done();
    return {.name              = mode.name,
            .threshold         = threshold,
            .share             = attend.mean_share(),
            .perplexity        = last_.perplexity,
            .perplexity_ratio  = dense_ ? last_.perplexity / dense_->perplexity : 1,
            .top1_agreement    = dense_ ? top1_agreement(last_, *dense_) : 1,
            .attention_seconds = attend.attention_seconds(),
            .selection_seconds = attend.selection_seconds()};
  }

  const settings&            settings_;
  backend                    where_;
  std::vector<index_t>       tokens_;
  decoder                    model_;
  predictions                last_;
  std::optional<predictions> dense_;
  std::vector<index_t>       counts_;  // r of each layer, for random representatives
};

int evaluate(int count, char** values) {
  const arguments given(count, values,
                        {"--model", "--tokens", "--length", "--threshold", "--features", "--window", "--chunk",
                         "--budget", "--candidates", "--modes", "--sweep", "--threads", "--seed", "--output"});
  if (given.help()) {
    std::fputs(usage, stdout);
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
