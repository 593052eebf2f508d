// cascada-page: writes what selection and attention did with a short text, layer by layer: JSON for tools/page.py.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/reference/attention.hpp"
#include "engine/arguments.hpp"
#include "engine/attention_mode.hpp"
#include "engine/decoder.hpp"
#include "engine/file.hpp"
#include "engine/layer_attention.hpp"
#include "engine/progress.hpp"

using namespace engine;
using nlohmann::json;

namespace {

constexpr const char* usage = R"(cascada-page --model DIR --tokens FILE [options]

  --model DIR          folder with config.json and safetensors (Llama family, GPT-2, GPT-J, OPT)
  --tokens FILE        token ids, one per line
  --length N           tokens to read, at most 512 (256)
  --heads A,B,...      query heads whose weights are written (the first of each KV head, at most three)
  --threads N          threads (all of the machine)
  --output DIR         where page.json goes (build/report)

The mode is near-far. A short text shows what long ones have with other defaults: a window and chunks of 32 tokens, a
threshold of 0.6, leaves that open above 0.03. What it takes:

)";

/// Weights are written as whole numbers of these.
constexpr float weight_unit = 1e-4f;

/// Looks at a mode's forward pass.
class observer {
 public:
  observer(const attention_mode& mode, std::vector<int> heads, const backend& where)
      : mode_(mode), heads_(std::move(heads)), cascade_(mode.selection, where), attention_(mode.options, where) {}

  void operator()(const attention_input& layer, matrix& out) {
    if (heads_.empty())
      for (index_t g = 0; g < std::min(layer.kv_heads, 3); ++g) heads_.push_back(g * group(layer));
    for (const int head : heads_)
      if (head < 0 || head >= layer.heads) throw bad_input("the model has no head " + std::to_string(head));
    require_ok(cascade_.step(rows(layer, mode_.rows, 0)), "cascade");
    const auto kept = cascade_.kept();
    attention_(layer, {&kept, 1}, out);
    json seen         = attended(layer, kept);
    seen["rep"]       = kept.rep;
    seen["additions"] = cascade_.report().additions, seen["removals"] = cascade_.report().removals;
    layers_.push_back(std::move(seen));
  }

  /// An array of the layers.
  json layers() && { return std::move(layers_); }

 private:
  /// What the rows attended to: the library's report; each KV head's leaves, and which of them were open for each
  /// token; each head's weights.
  json attended(const attention_input& layer, const cascada::representatives& kept) {
    matrix     weights;
    const auto report = weigh(layer, kept, weights);
    json       out    = {{"report",
                          {{"rows", report.rows},
                           {"near_keys", report.near_keys},
                           {"leaves", report.leaves},
                           {"opened", report.opened},
                           {"closed_mass", report.closed_mass()}}},
                         {"kv_heads", json::array()},
                         {"heads", json::array()}};
    for (index_t g = 0; g < layer.kv_heads; ++g) out["kv_heads"].push_back(leaves(layer, kept, weights, g));
    for (const int head : heads_)
      out["heads"].push_back({{"head", head}, {"kv_head", head / group(layer)}, {"weights", rounded(weights, head)}});
    return out;
  }

  /// weights [T, heads * T]: the share of its softmax that a row gives each token; a closed leaf's in equal parts to
  /// its tokens. The library says it itself: where values are unit vectors, outputs are weights.
  cascada::attention_report weigh(const attention_input& layer, const cascada::representatives& kept, matrix& weights) {
    const index_t         T    = rows_of(layer.queries);
    const matrix          unit = matrix::Identity(T, T).replicate(1, layer.kv_heads);
    const attention_input with_unit_values{layer.layer,          layer.heads,   layer.kv_heads, layer.residual,
                                           layer.normalized,     layer.queries, layer.keys,     unit,
                                           layer.sliding_window, layer.scale,   layer.softcap};
    weights.resize(T, std::int64_t{layer.heads} * T);
    return attention_(with_unit_values, {&kept, 1}, weights);
  }

  /// Of a KV head: the leaves before each chunk's edge, as the reference forms them, and those that are open for each
  /// token.
  json leaves(const attention_input& layer, const cascada::representatives& kept, const matrix& weights, index_t g) {
    namespace reference                             = cascada::reference;
    const auto&                             options = mode_.options;
    const index_t                           T       = rows_of(layer.keys);
    const reference::attention_input<float> keys    = {
           .tokens    = T,
           .heads     = layer.kv_heads,
           .kv_heads  = layer.kv_heads,
           .key_dim   = cols_of(layer.keys) / layer.kv_heads,
           .value_dim = 0,
           .q         = {},
           .k         = std::vector(layer.keys.data(), layer.keys.data() + layer.keys.size()),
           .v         = {}};
    const reference::assignment_of_tokens rep(kept.rep.begin(), kept.rep.end());
    const auto chain = reference::chains(std::min(options.sink_tokens, T), keys, g, rep, options);

    json out = {{"chunks", json::array()}, {"open", json::array()}};
    for (index_t begin = 0; begin < T; begin += options.chunk) {
      const index_t edge = cascada::edge_of(begin, options.window), sinks = std::min(options.sink_tokens, edge);
      const auto    all     = reference::leaves_before<float>(edge, sinks, keys, g, chain, options);
      json          members = json::array();
      for (const auto& leaf : all) members.push_back(leaf.members);
      out["chunks"].push_back({{"edge", edge}, {"sinks", sinks}, {"leaves", std::move(members)}});
      for (index_t t = begin; t < std::min(begin + options.chunk, T); ++t) {
        json open = json::array();
        for (std::size_t j = 0; j < all.size(); ++j)
          if (is_open(layer, weights, t, g, all[j].members)) open.push_back(j);
        out["open"].push_back(std::move(open));
      }
    }
    return out;
  }

  /// The tokens of a closed leaf have the same weight, bit for bit, in all heads; those of an open one do not.
  static bool is_open(const attention_input& layer, const matrix& weights, index_t t, index_t g,
                      const std::vector<index_t>& leaf) {
    for (index_t h = g * group(layer); h < (g + 1) * group(layer); ++h) {
      const float* row = row_of(weights, t, h);
      for (const index_t i : leaf)
        if (row[i] != row[leaf.front()]) return true;
    }
    return false;
  }

  /// Of a head: a list for each token, up to itself.
  static json rounded(const matrix& weights, index_t h) {
    json out = json::array();
    for (index_t t = 0; t < rows_of(weights); ++t) {
      json row = json::array();
      for (index_t i = 0; i <= t; ++i) row.push_back(std::lround(row_of(weights, t, h)[i] / weight_unit));
      out.push_back(std::move(row));
    }
    return out;
  }

  static const float* row_of(const matrix& weights, index_t t, index_t h) {
    return weights.row(t).data() + std::int64_t{h} * rows_of(weights);
  }
  static index_t group(const attention_input& layer) { return layer.heads / layer.kv_heads; }

  const attention_mode&   mode_;
  std::vector<int>        heads_;
  cascada::cascade<float> cascade_;
  layer_attention         attention_;
  json                    layers_ = json::array();
};

attention_mode read_mode(const arguments& given) {
  json shared = {{"window", 32}, {"chunk", 32}, {"threshold", 0.6}, {"open_above", 0.03}};
  shared.update(settings_of(given));
  const auto mode = mode_named("near-far", decoder_modes, shared);
  if (mode.rows == features::keys) throw bad_input("option --features cannot be keys: the page shows one set a layer");
  return mode;
}

int write_page(int count, char** values) {
  auto known = setting_options();
  known.merge(std::set<std::string>{"--model", "--tokens", "--output", "--length", "--heads", "--threads"});
  const arguments given(count, values, known);
  if (given.help()) {
    std::fputs(usage, stdout);
    print_settings(command_line, stdout);
    return 0;
  }
  const auto    mode   = read_mode(given);
  const auto    heads  = given.has("--heads") ? given.integers("--heads") : std::vector<int>{};
  const auto    tokens = read_tokens(given.text("--tokens"), given.integer("--length", 256, 2, 512));
  const auto    output = given.text("--output", "build/report");
  const auto    cores  = threads::usable();
  threads       pool(given.integer("--threads", cores, 1, threads::most));
  const decoder model(given.text("--model"), pool.where());
  warn_of_unused(model.unused());

  const progress shown("page", model.layers());
  observer       observed(mode, heads, pool.where());
  model.forward(tokens, [&](const attention_input& layer, matrix& out) {
    shown.step(layer.layer);
    observed(layer, out);
  });
  shown.done();
  const json page = {{"settings", settings_of(mode)},
                     {"tokens", tokens},
                     {"weight_unit", decimal(weight_unit)},
                     {"layers", std::move(observed).layers()}};
  make_folder(output);
  write_file(output + "/page.json", page.dump() + "\n");
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return run_program("cascada-page", [&] { return write_page(count, values); });
}
