// cascada-frontier: how much a model loses, and how much time attention takes, for many settings of near + far.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cascada/attention.hpp"
#include "engine/arguments.hpp"
#include "engine/decoder.hpp"
#include "engine/evaluate.hpp"
#include "engine/far_selection.hpp"
#include "engine/file.hpp"
#include "engine/progress.hpp"

using namespace engine;

namespace {

constexpr const char* usage = R"(cascada-frontier --model DIR --tokens FILE --points FILE [options]

  --model DIR      folder with config.json and safetensors
  --tokens FILE    token ids, one per line
  --points FILE    JSON list of settings, each an object; absent ones are the library's defaults:
                   name, source (cascade, random, positions, none), features (residual, normalized, keys), threshold,
                   assign (lowest, nearest), keys (all, near, near_and_far), window, chunk, sinks, leaves (order, keys),
                   leaf_threshold, leaf, moments (0: none), open (none, mass, all), open_above, tile
  --length N       tokens to read (2048)
  --skip N         tokens to pass over first (0)
  --threads N      threads (all of the machine)
  --output FILE    one JSON object a line, appended as it comes (build/frontier.jsonl)
)";

using nlohmann::json;

template <class Value>
Value named(const json& point, const char* key, const std::vector<std::pair<std::string, Value>>& names,
            Value otherwise) {
  if (!point.contains(key)) return otherwise;
  const auto given = point.at(key).get<std::string>();
  for (const auto& [name, value] : names)
    if (name == given) return value;
  throw bad_input(std::string("points: ") + key + " cannot be " + given);
}

struct setting {
  json                       record;
  selection_source           source;
  features                   rows;
  cascada::selection_options selection;
  cascada::attention_options attention;
};

setting read_setting(const json& point) {
  using namespace cascada;
  attention_options a;
  a.keys   = named<key_set>(point, "keys", {{"all", key_set::all}, {"near", key_set::near}}, key_set::near_and_far);
  a.window = point.value("window", a.window), a.chunk = point.value("chunk", a.chunk);
  a.sink_tokens = point.value("sinks", a.sink_tokens);
  a.leaves = named(point, "leaves", {{"order", leaf_formation::by_order}, {"keys", leaf_formation::by_keys}}, a.leaves);
  a.leaf_threshold = point.value("leaf_threshold", a.leaf_threshold), a.leaf = point.value("leaf", a.leaf);
  if (point.contains("moments")) {
    const auto groups = point.at("moments").get<index_t>();
    a.moments         = groups == 0 ? std::nullopt : std::optional(groups);
  }
  a.open = named(point, "open", {{"none", opening::none}, {"mass", opening::by_mass}, {"all", opening::all}}, a.open);
  a.open_above = point.value("open_above", a.open_above), a.tile = point.value("tile", a.tile);
  const bool far = a.keys == key_set::near_and_far;
  return {.record    = point,
          .source    = named(point, "source",
                             {{"none", selection_source::none},
                              {"cascade", selection_source::cascade},
                              {"random", selection_source::random},
                              {"positions", selection_source::positions}},
                          far ? selection_source::cascade : selection_source::none),
          .rows      = features_named(point.value("features", "residual")),
          .selection = {.threshold = point.value("threshold", 0.5f),
                        .assign = named(point, "assign", {{"nearest", assignment::nearest}}, assignment::lowest_index)},
          .attention = a};
}

class frontier {
 public:
  frontier(const arguments& given, const backend& where)
      : where_(where),
        tokens_(
            read_tokens(given.text("--tokens"), given.integer("--skip", 0, 0) + given.integer("--length", 2048, 2))),
        model_(given.text("--model"), where) {
    tokens_.erase(tokens_.begin(), tokens_.begin() + given.integer("--skip", 0, 0));
  }

  /// The first is the yardstick.
  void run(const std::vector<setting>& settings, const std::string& output) {
    for (const setting& one : settings) {
      const json found = measure(one);
      append_line(output, found.dump());
      std::printf("%s\n", found.dump().c_str());
      std::fflush(stdout);
    }
  }

 private:
  json measure(const setting& one) {
    cascada::attention<float> attend(one.attention, where_);
    far_selection             selection(one.source, one.rows, one.selection, counts_, 1, where_);
    double                    selecting = 0, attending = 0, share = 0, mass = 0;
    std::vector<index_t>      counts;
    const progress            shown(one.record.value("name", "point"), model_.layers());
    const matrix              hidden = model_.forward(tokens_, [&](const attention_input& layer, matrix& out) {
      shown.step(layer.layer);
      const stopwatch since;
      const auto      kept = selection.next(layer);
      selecting += since.seconds();
      const stopwatch from;
      require_ok(attend(heads(layer.queries, layer.heads), layer.kv(), kept, heads(out, layer.heads)), "attention");
      attending += from.seconds();
      share += attend.report().share_of_dense() / model_.layers();
      mass += attend.report().closed_mass() / model_.layers();
      if (kept.size() == 1) counts.push_back(kept[0].count());
    });
    if (one.source == selection_source::cascade && counts_.empty()) counts_ = counts;
    if (!dense_) dense_ = hidden;
    const auto found = compare_predictions(hidden, *dense_, model_.output(), tokens_, where_);
    if (!dense_loss_) dense_loss_ = found.loss, dense_seconds_ = attending;
    shown.done();
    json out        = {{"setting", one.record}, {"length", tokens_.size()}};
    out["loss"]     = found.loss;
    out["ratio"]    = std::exp(found.loss - *dense_loss_);
    out["kl"]       = found.divergence;
    out["top1"]     = found.agreement;
    out["r_share"]  = selection.mean_share();
    out["savings"]  = selection.mean_savings();
    out["jaccard"]  = selection.mean_jaccard();
    out["keys"]     = share;
    out["mass"]     = mass;
    out["select_s"] = selecting;
    out["attend_s"] = attending;
    out["speedup"]  = dense_seconds_ / (selecting + attending);
    return out;
  }

  static void append_line(const std::string& path, const std::string& line) {
    std::FILE* file = std::fopen(path.c_str(), "a");
    if (!file) throw bad_input("cannot write " + path);
    std::fprintf(file, "%s\n", line.c_str());
    std::fclose(file);
  }

  backend               where_;
  std::vector<index_t>  tokens_;
  decoder               model_;
  std::optional<matrix> dense_;
  std::optional<double> dense_loss_;
  double                dense_seconds_ = 0;
  std::vector<index_t>  counts_;  // of the first cascade, for random representatives
};

json read_points(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw bad_input("cannot read " + path);
  json points = json::parse(file, nullptr, false);
  if (!points.is_array()) throw bad_input(path + " is no JSON list");
  return points;
}

int run(int count, char** values) {
  const arguments given(count, values,
                        {"--model", "--tokens", "--points", "--length", "--skip", "--threads", "--output"});
  if (given.help()) {
    std::fputs(usage, stdout);
    return 0;
  }
  const auto           cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  threads              pool(given.integer("--threads", cores, 1));
  std::vector<setting> settings = {read_setting({{"name", "dense"}, {"keys", "all"}})};
  for (const json& point : read_points(given.text("--points"))) settings.push_back(read_setting(point));
  frontier(given, pool.where()).run(settings, given.text("--output", "build/frontier.jsonl"));
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-frontier", [&] { return run(count, values); });
}
