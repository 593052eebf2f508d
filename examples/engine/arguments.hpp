#pragma once
// Command lines of the form --name value, checked whole before any work.

#include <charconv>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/error.hpp"

namespace engine {

/// "a,b,c" as a list; empty parts are an error of whoever reads them.
inline std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts(1);
  for (const char c : list)
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

class arguments {
 public:
  arguments(int count, char** values, const std::set<std::string>& known) {
    for (int i = 1; i < count; i += 2) {
      const std::string name = values[i];
      if (name == "--help") {
        help_ = true;
        return;
      }
      if (known.count(name) == 0) throw bad_input("unknown option " + name + "; --help lists the options");
      if (i + 1 == count) throw bad_input("option " + name + " needs a value");
      values_[name] = values[i + 1];
    }
  }

  bool help() const { return help_; }
  bool has(const std::string& name) const { return values_.count(name) != 0; }

  std::string text(const std::string& name, const std::string& otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  std::string text(const std::string& name) const {
    if (!has(name)) throw bad_input("option " + name + " is missing");
    return text(name, "");
  }

  int integer(const std::string& name, int otherwise, int least, int most = std::numeric_limits<int>::max()) const {
    const auto value = has(name) ? parse<int>(name, text(name)) : otherwise;
    if (value > most) throw bad_input("option " + name + " must be at most " + std::to_string(most));
    if (value < least) throw bad_input("option " + name + " must be at least " + std::to_string(least));
    return value;
  }

  std::vector<int> integers(const std::string& name) const {
    std::vector<int> out;
    for (const std::string& part : split(text(name))) out.push_back(parse<int>(name, part));
    return out;
  }

  /// A threshold: in (0, 1].
  float threshold(const std::string& name, float otherwise) const {
    return has(name) ? in_range(name, parse<float>(name, text(name))) : otherwise;
  }
  /// A list of thresholds, or "none".
  std::vector<float> thresholds(const std::string& name, const std::string& otherwise) const {
    std::vector<float> out;
    if (text(name, otherwise) == "none") return out;
    for (const std::string& part : split(text(name, otherwise)))
      out.push_back(in_range(name, parse<float>(name, part)));
    return out;
  }

 private:
  template <class Number>
  static Number parse(const std::string& name, const std::string& value) {
    Number     out{};
    const auto end    = value.data() + value.size();
    const auto result = std::from_chars(value.data(), end, out);
    if (result.ec != std::errc{} || result.ptr != end)
      throw bad_input("option " + name + ": " + value + " is no number");
    return out;
  }

  static float in_range(const std::string& name, float value) {
    if (!(value > 0 && value <= 1)) throw bad_input("option " + name + " must lie in (0, 1]");
    return value;
  }

  std::map<std::string, std::string> values_;
  bool                               help_ = false;
};

}  // namespace engine
