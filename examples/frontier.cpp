// cascada-frontier: how much a model loses, and how much time attention takes, for many settings of near + far.

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/arguments.hpp"
#include "engine/decoder.hpp"
#include "engine/evaluate.hpp"
#include "engine/file.hpp"
#include "engine/mode_attention.hpp"
#include "engine/progress.hpp"

using namespace engine;

namespace {

constexpr const char* usage = R"(cascada-frontier --model DIR --tokens FILE --points FILE [options]

  --model DIR          folder with config.json and safetensors (Llama family, GPT-2, GPT-J, OPT)
  --tokens FILE        token ids, one per line
  --points FILE        JSON: {"points": [..]}, each point an object of the settings below
  --length N           tokens to read (2048)
  --skip N             tokens to pass over first (0)
  --threads N          threads (all of the machine)
  --output FILE        one JSON object a line, appended as it comes (build/frontier.jsonl)

A point:
  name                 what progress calls it
  keys                 all, representatives, near or near_and_far (near_and_far)
  queries              all, representatives or grouped (all)
  open                 none, mass or all (mass)
  source               of representatives: cascade, random or positions (cascade)
)";

using nlohmann::json;

struct point {
  json           record;
  attention_mode mode;
};

std::vector<point> read_points(const std::string& path) {
  const json         file = read_json(path);
  std::vector<point> out;
  if (!file.contains("points") || !file["points"].is_array()) throw bad_input(path + " has no list of points");
  for (const json& one : file["points"]) {
    const setting_names spelling = {path + ", point " + std::to_string(out.size() + 1) + ": "};
    out.push_back({one, mode_of(one, spelling)});
  }
  return out;
}

/// The settings of one run; dense attention, its yardstick, comes first.
class frontier {
 public:
  frontier(const arguments& given, const backend& where)
      : where_(where),
        tokens_(
            read_tokens(given.text("--tokens"), given.integer("--skip", 0, 0) + given.integer("--length", 2048, 2))),
        model_(given.text("--model"), where),
        dense_(mode_named("dense", decoder_modes, json::object())),
        attend_densely_(dense_, 0, where) {
    warn_of_unused(model_.unused());
    tokens_.erase(tokens_.begin(), tokens_.begin() + given.integer("--skip", 0, 0));
  }

  void run(const std::vector<point>& points, const std::string& output) {
    measure({settings_of(dense_), dense_});
    for (const point& one : points) append_line(output, measure(one).dump());
  }

 private:
  /// Dense attention's time is taken in turn with the point's, in every fifth layer.
  static constexpr index_t every = 5;

  json measure(const point& one) {
    mode_attention attend(one.mode, 1, where_);
    const double   before = attend_densely_.attention_seconds();
    index_t        timed  = 0;
    const progress shown(one.mode.name, model_.layers());
    matrix         unused;
    const matrix   hidden = model_.forward(tokens_, [&](const attention_input& layer, matrix& out) {
      shown.step(layer.layer);
      attend(layer, out);
      if (layer.layer % every != 0) return;
      unused.resizeLike(out);
      attend_densely_(layer, unused);
      ++timed;
    });
    if (!dense_hidden_) dense_hidden_ = hidden;
    const auto found = compare_predictions(hidden, *dense_hidden_, model_.output(), tokens_, where_);
    if (!dense_loss_) dense_loss_ = found.loss;
    shown.done();

    const far_selection& selection     = attend.selection();
    const double         dense_seconds = (attend_densely_.attention_seconds() - before) * model_.layers() / timed;
    const double         seconds       = selection.seconds() + attend.attention_seconds();
    json                 out           = {{"point", one.record}, {"length", tokens_.size()}, {"loss", found.loss}};
    out["loss_above_dense"]            = found.loss - *dense_loss_;
    out["divergence"]                  = found.divergence;
    out["top1_agreement"]              = found.agreement;
    out["representatives_share"]       = selection.mean_share();
    out["savings"]                     = selection.inherits() ? json(selection.mean_savings()) : json();
    out["jaccard"]                     = selection.inherits() ? json(selection.mean_jaccard()) : json();
    out["share_of_dense_keys"]         = attend.mean_share_of_dense();
    out["closed_mass"]                 = attend.mean_closed_mass();
    out["selection_seconds"]           = selection.seconds();
    out["attention_seconds"]           = attend.attention_seconds();
    out["dense_seconds"]               = dense_seconds;
    out["time_to_dense"]               = seconds / dense_seconds;
    return out;
  }

  static void append_line(const std::string& path, const std::string& line) {
    std::FILE* file    = std::fopen(path.c_str(), "a");
    const bool written = file && std::fprintf(file, "%s\n", line.c_str()) > 0;
    if (!file || std::fclose(file) != 0 || !written) throw bad_input("cannot write " + path);
  }

  backend               where_;
  std::vector<index_t>  tokens_;
  decoder               model_;
  attention_mode        dense_;
  mode_attention        attend_densely_;  // kept: its workspace is there when a point is timed
  std::optional<matrix> dense_hidden_;
  std::optional<double> dense_loss_;
};

int run(int count, char** values) {
  const arguments given(count, values,
                        {"--model", "--tokens", "--points", "--length", "--skip", "--threads", "--output"});
  if (given.help()) {
    std::fputs(usage, stdout);
    print_settings({""}, stdout);
    return 0;
  }
  const auto cores  = threads::usable();
  const auto points = read_points(given.text("--points"));
  threads    pool(given.integer("--threads", cores, 1, threads::most));
  const auto output = given.text("--output", "build/frontier.jsonl");
  require_writable(output);
  frontier(given, pool.where()).run(points, output);
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-frontier", [&] { return run(count, values); });
}
