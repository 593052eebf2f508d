#pragma once
// A flat JSON object of settings, read with a sentence for each thing that is wrong.

#include <charconv>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cascada/config.hpp"
#include "engine/error.hpp"

namespace engine {

/// How sentences call a setting: `leaf_threshold` of a file, `option --leaf-threshold` of a command line.
struct setting_names {
  std::string prefix;
  char        space = '_';

  std::string of(const std::string& key) const { return of(key, prefix); }
  std::string of(std::string key, const std::string& before) const {
    for (char& c : key)
      if (c == '_') c = space;
    return before + key;
  }
};

inline const setting_names command_line = {"option --", '-'};

/// A word of a command line: a number, or text.
inline nlohmann::json as_json(const std::string& word) {
  auto parsed = nlohmann::json::parse(word, nullptr, /*allow_exceptions=*/false);
  return parsed.is_number() ? parsed : nlohmann::json(word);
}

/// A float as the shortest number that reads back as it: 0.8, not 0.800000011920929.
inline nlohmann::json decimal(float value) {
  char text[32];
  return nlohmann::json::parse(text, std::to_chars(text, std::end(text), value).ptr);
}

/// Each reading leaves `out` as it is where the key is absent.
class setting_reader {
 public:
  setting_reader(const nlohmann::json& from, const setting_names& names) : from_(from), names_(names) {
    if (!from.is_object()) throw bad_input(names.prefix + "settings are no JSON object");
  }

  template <class Value>
  void choice(const char* key, Value& out, const std::vector<std::pair<std::string, Value>>& choices) {
    const std::string given = text(key, "");
    if (!from_.contains(key)) return;
    std::string known;
    for (const auto& [name, value] : choices) {
      if (name == given) return void(out = value);
      known += (known.empty() ? "" : ", ") + name;
    }
    throw bad_input(names_.of(key) + " cannot be " + given + "; there are " + known);
  }

  void whole(const char* key, cascada::index_t& out, cascada::index_t least) {
    const auto* value = find(key);
    if (!value) return;
    constexpr auto most = std::numeric_limits<cascada::index_t>::max();
    // get<> of a float would cut it, of a larger number wrap it.
    if (!value->is_number_integer() || *value < least || *value > most)
      throw bad_input(names_.of(key) + " must be a whole number, at least " + std::to_string(least));
    out = value->get<cascada::index_t>();
  }

  void threshold(const char* key, float& out) { fraction(key, out, "(0, 1]"); }
  void share(const char* key, float& out) {
    fraction(key, out, "(0, 1)");
    if (!(out < 1)) throw bad_input(names_.of(key) + " must lie in (0, 1)");
  }

  void truth(const char* key, bool& out) {
    const auto* value = find(key);
    if (value && !value->is_boolean()) throw bad_input(names_.of(key) + " must be true or false");
    if (value) out = value->get<bool>();
  }

  std::string text(const char* key, const char* otherwise) {
    const auto* value = find(key);
    if (!value) return otherwise;
    if (!value->is_string()) throw bad_input(names_.of(key) + " must be a text");
    return value->get<std::string>();
  }

  /// Everything must have been asked for.
  void done() const {
    for (const auto& [key, value] : from_.items())
      if (read_.count(key) == 0) throw bad_input(names_.prefix + "there is no setting " + key);
  }

 private:
  const nlohmann::json* find(const char* key) {
    read_.insert(key);
    const auto found = from_.find(key);
    return found == from_.end() ? nullptr : &*found;
  }

  void fraction(const char* key, float& out, const char* range) {
    const auto* value = find(key);
    if (!value) return;
    const float number = value->is_number() ? value->get<float>() : 0;
    if (!(number > 0 && number <= 1)) throw bad_input(names_.of(key) + " must lie in " + range);
    out = number;
  }

  const nlohmann::json& from_;
  const setting_names&  names_;
  std::set<std::string> read_;
};

}  // namespace engine
