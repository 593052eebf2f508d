#pragma once
// Kinds of attention that are compared: each a JSON object of settings, some of them with a name of their own.

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cascada/attention_options.hpp"
#include "cascada/presets.hpp"
#include "cascada/selection_options.hpp"
#include "engine/arguments.hpp"
#include "engine/error.hpp"
#include "engine/far_selection.hpp"
#include "engine/page_attention.hpp"
#include "engine/setting_reader.hpp"

namespace engine {

struct attention_mode {
  std::string                name;
  selection_source           source;
  features                   rows;
  cascada::selection_options selection;
  cascada::attention_options options;

  std::optional<page_settings> pages = std::nullopt;  // steps of one token attend to pages; prompts, as options say
};

struct setting_help {
  const char *name, *value, *text;
};

/// What modes of all names share; what is absent is the library's default.
inline constexpr setting_help shared_settings[] = {
    {"threshold", "X", "Gram threshold tau in (0, 1] (0.8)"},
    {"features", "NAME", "rows that selection sees: residual, normalized, or keys: each KV head's own (residual)"},
    {"assign", "NAME", "which representative a token gets: the lowest or the nearest that covers it (lowest)"},
    {"window", "N", "near field behind a chunk, in tokens (128)"},
    {"chunk", "N", "tokens of a chunk (128)"},
    {"sinks", "N", "first tokens that every query attends to exactly (1)"},
    {"leaves", "NAME", "how a cluster's tokens form leaves: by order or by keys (keys)"},
    {"leaf_threshold", "X", "leaves by keys: least cosine with a leaf's first key, in (0, 1] (0.7)"},
    {"leaf", "N", "tokens of a leaf at most (16)"},
    {"moments", "N", "groups of key dimensions that correct a leaf's logit, or 0 (4)"},
    {"summaries", "NAME", "what leaves' means are kept as: multiplied, as rows are, bfloat16, or bytes (multiplied)"},
    {"open_above", "X", "share of the softmax above which a leaf opens, in (0, 1) (0.01)"},
    {"tile", "N", "tokens that open leaves together; divides the chunk (16)"},
};

/// A line for each of them.
inline void print_settings(const setting_names& names, std::FILE* out) {
  for (const auto& [name, value, text] : shared_settings) {
    const std::string called = names.of(name, names.space == '-' ? "--" : "") + " " + value;
    std::fprintf(out, "  %-20s %s\n", called.c_str(), text);
  }
}

namespace detail {

/// What a setting begins with: the library's defaults, or a preset of it.
inline cascada::preset read_preset(setting_reader& from) {
  namespace presets = cascada::presets;
  cascada::preset base;
  from.choice("preset", base,
              {{"accurate", presets::accurate}, {"balanced", presets::balanced}, {"fast", presets::fast}});
  return base;
}

inline cascada::attention_options read_attention(setting_reader& from, cascada::attention_options a) {
  using namespace cascada;
  from.choice("keys", a.keys,
              {{"all", key_set::all},
               {"representatives", key_set::representatives},
               {"near", key_set::near},
               {"near_and_far", key_set::near_and_far}});
  from.choice(
      "queries", a.queries,
      {{"all", query_set::all}, {"representatives", query_set::representatives}, {"grouped", query_set::grouped}});
  from.choice("leaves", a.leaves, {{"order", leaf_formation::by_order}, {"keys", leaf_formation::by_keys}});
  from.choice("summaries", a.summaries,
              {{"multiplied", summary_type::as_multiplied},
               {"bfloat16", summary_type::bfloat16},
               {"bytes", summary_type::bytes}});
  from.choice("open", a.open, {{"none", opening::none}, {"mass", opening::by_mass}, {"all", opening::all}});
  from.truth("causal", a.causal), from.truth("weighted", a.weighted);
  from.whole("window", a.window, 0), from.whole("chunk", a.chunk, 1), from.whole("sinks", a.sink_tokens, 0);
  from.whole("leaf", a.leaf, 1), from.whole("tile", a.tile, 1);
  from.threshold("leaf_threshold", a.leaf_threshold), from.share("open_above", a.open_above);
  index_t groups = a.moments.value_or(0);
  from.whole("moments", groups, 0);
  a.moments = groups == 0 ? std::nullopt : std::optional(groups);
  return a;
}

}  // namespace detail

/// The mode that a JSON object describes: `name`, `preset` and `source` (cascade, random, positions, none), the
/// settings above, and the library's switches `keys`, `queries`, `open`, `causal` and `weighted`. One sentence for what
/// is unknown, of the wrong type, out of range, or in contradiction.
inline attention_mode mode_of(const nlohmann::json& described, const setting_names& spelling) {
  using namespace cascada;
  setting_reader from(described, spelling);
  const preset   base = detail::read_preset(from);
  attention_mode mode = {};
  mode.selection      = base.selection;
  mode.options        = detail::read_attention(from, base.attention);
  const auto& options = mode.options;
  const bool  far     = options.keys == key_set::near_and_far;
  const bool  selects = needs_selections(options);
  mode.name           = from.text("name", "unnamed");
  mode.source         = selects ? selection_source::cascade : selection_source::none;
  mode.rows           = features_named(from.text("features", name_of(mode.rows)));
  from.choice("source", mode.source,
              {{"none", selection_source::none},
               {"cascade", selection_source::cascade},
               {"random", selection_source::random},
               {"positions", selection_source::positions}});
  from.threshold("threshold", mode.selection.threshold);
  from.choice("assign", mode.selection.assign,
              {{"lowest", assignment::lowest_index}, {"nearest", assignment::nearest}});
  from.done();
  if (selects && mode.source == selection_source::none)
    throw bad_input(spelling.of("source") + " cannot be none where keys are " +
                    (far ? "near_and_far" : "representatives"));
  if (far && options.open == opening::by_mass && options.chunk % options.tile != 0)
    throw bad_input(spelling.of("tile") + " must divide the chunk");
  if (const auto answer = check(options); answer != status::ok)
    throw bad_input(spelling.prefix + std::string(message(answer)));
  return mode;
}

/// The options of a command line that `settings_of` reads.
inline std::set<std::string> setting_options() {
  std::set<std::string> out;
  for (const auto& setting : shared_settings) out.insert(command_line.of(setting.name, "--"));
  return out;
}

/// What modes of all names share, as given on a command line.
inline nlohmann::json settings_of(const arguments& given) {
  auto out = nlohmann::json::object();
  for (const auto& setting : shared_settings)
    if (const auto option = command_line.of(setting.name, "--"); given.has(option))
      out[setting.name] = as_json(given.text(option));
  return out;
}

inline const char* name_of(cascada::summary_type kept) {
  switch (kept) {
    case cascada::summary_type::as_multiplied: break;
    case cascada::summary_type::bfloat16: return "bfloat16";
    case cascada::summary_type::bytes: return "bytes";
  }
  return "multiplied";
}

inline nlohmann::json settings_of(const attention_mode& mode) {
  using namespace cascada;
  const auto& a = mode.options;
  if (mode.pages) return {{"page", mode.pages->tokens}, {"pages_read", decimal(mode.pages->read)}};
  return {{"threshold", decimal(mode.selection.threshold)},
          {"features", name_of(mode.rows)},
          {"assign", mode.selection.assign == assignment::nearest ? "nearest" : "lowest"},
          {"window", a.window},
          {"chunk", a.chunk},
          {"sinks", a.sink_tokens},
          {"leaves", a.leaves == leaf_formation::by_keys ? "keys" : "order"},
          {"leaf_threshold", decimal(a.leaf_threshold)},
          {"leaf", a.leaf},
          {"moments", a.moments.value_or(0)},
          {"summaries", name_of(a.summaries)},
          {"open_above", decimal(a.open_above)},
          {"tile", a.tile}};
}

using named_modes = std::vector<std::pair<std::string, nlohmann::json>>;

/// Of decoders. Without more, near + far opens its leaves. `balanced` is the library's preset, but for what is given.
inline const named_modes decoder_modes = {
    {"dense", {{"keys", "all"}}},
    {"window", {{"keys", "near"}}},
    {"positions", {{"source", "positions"}, {"leaves", "order"}}},
    {"random", {{"source", "random"}}},
    {"literal", {{"keys", "representatives"}, {"queries", "representatives"}}},
    {"near-far-closed", {{"open", "none"}}},
    {"near-far", nlohmann::json::object()},
    {"near-far-grouped", {{"queries", "grouped"}, {"open", "none"}}},
    {"balanced", {{"preset", "balanced"}}},
};

/// Of encoders, bidirectional. The weighted ones attend to clusters' means; `random` is all-queries with random
/// representatives.
inline const named_modes encoder_modes = {
    {"dense", {{"keys", "all"}, {"causal", false}}},
    {"literal", {{"keys", "representatives"}, {"queries", "representatives"}, {"causal", false}}},
    {"weighted", {{"keys", "representatives"}, {"queries", "representatives"}, {"causal", false}, {"weighted", true}}},
    {"all-queries", {{"keys", "representatives"}, {"causal", false}, {"weighted", true}}},
    {"random", {{"keys", "representatives"}, {"causal", false}, {"weighted", true}, {"source", "random"}}},
};

/// Their names, as command lines list them.
inline std::string names_of(const named_modes& modes) {
  std::string list;
  for (const auto& [name, settings] : modes) list += (list.empty() ? "" : ",") + name;
  return list;
}

/// The mode of that name, with what all modes share.
inline attention_mode mode_named(const std::string& name, const named_modes& modes, nlohmann::json shared) {
  for (const auto& [known, settings] : modes) {
    if (known != name) continue;
    shared.update(settings);
    shared["name"] = name;
    return mode_of(shared, command_line);
  }
  throw bad_input("unknown mode " + name + "; there are " + names_of(modes));
}

/// The modes of a list "a,b,c", each once.
inline std::vector<attention_mode> modes_named(const std::string& list, const named_modes& modes,
                                               const nlohmann::json& shared) {
  std::vector<attention_mode> out;
  for (const std::string& name : split(list)) {
    for (const attention_mode& earlier : out)
      if (earlier.name == name) throw bad_input("mode " + name + " is named twice");
    out.push_back(mode_named(name, modes, shared));
  }
  return out;
}

}  // namespace engine
