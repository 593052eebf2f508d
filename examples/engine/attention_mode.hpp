#pragma once
// The attention modes that are compared, by name.

#include <string>
#include <vector>

#include "cascada/attention_options.hpp"
#include "engine/arguments.hpp"
#include "engine/error.hpp"
#include "engine/far_selection.hpp"

namespace engine {

struct attention_mode {
  std::string                name;
  selection_source           source;
  cascada::attention_options options;
};

/// Sizes that the modes share; see cascada::attention_options.
struct attention_sizes {
  cascada::index_t window = 128, chunk = 128, budget = 128, candidates = 4;
};

inline constexpr const char* default_modes = "dense,window,random,literal,near-far,near-far-grouped,near-far-refined";

inline attention_mode mode_named(const std::string& name, const attention_sizes& sizes) {
  using cascada::key_set, cascada::query_set;
  cascada::attention_options options{.window = sizes.window, .chunk = sizes.chunk};
  auto                       source = selection_source::cascade;
  if (name == "dense") {
    options.keys = key_set::all;
    source       = selection_source::none;
  } else if (name == "window") {
    options.keys = key_set::near;
    source       = selection_source::none;
  } else if (name == "literal") {
    options.keys    = key_set::representatives;
    options.queries = query_set::representatives;
  } else if (name == "random") {
    source = selection_source::random;
  } else if (name == "near-far-grouped") {
    options.queries = query_set::grouped;
  } else if (name == "near-far-refined") {
    options.budget     = sizes.budget;
    options.candidates = sizes.candidates;
  } else if (name != "near-far") {
    throw bad_input("unknown mode " + name + "; there are " + default_modes);
  }
  return {name, source, options};
}

inline constexpr const char* default_encoder_modes = "literal,weighted,all-queries,random";

/// The bidirectional modes, for encoders. The weighted ones attend to clusters' means; `random` is all-queries with
/// random representatives.
inline attention_mode encoder_mode_named(const std::string& name) {
  using cascada::key_set, cascada::query_set;
  cascada::attention_options options{.keys = key_set::representatives, .causal = false};
  auto                       source = selection_source::cascade;
  if (name == "dense") {
    options.keys = key_set::all;
    source       = selection_source::none;
  } else if (name == "literal") {
    options.queries = query_set::representatives;
  } else if (name == "weighted") {
    options.queries  = query_set::representatives;
    options.weighted = true;
  } else if (name == "all-queries" || name == "random") {
    options.weighted = true;
    if (name == "random") source = selection_source::random;
  } else {
    throw bad_input("unknown mode " + name + "; there are dense," + default_encoder_modes);
  }
  return {name, source, options};
}

/// The modes of a list "a,b,c", each once; `named` makes one from its name.
template <class Named>
std::vector<attention_mode> modes_named(const std::string& list, Named&& named) {
  std::vector<attention_mode> modes;
  for (const std::string& name : split(list)) {
    for (const attention_mode& earlier : modes)
      if (earlier.name == name) throw bad_input("mode " + name + " is named twice");
    modes.push_back(named(name));
  }
  return modes;
}
inline std::vector<attention_mode> modes_named(const std::string& list, const attention_sizes& sizes) {
  return modes_named(list, [&](const std::string& name) { return mode_named(name, sizes); });
}

}  // namespace engine
