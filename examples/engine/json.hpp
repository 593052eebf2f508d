#pragma once
// JSON that strangers wrote: read strictly, with a sentence that says what is wrong and where.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error.hpp"

namespace engine {

/// Where JSON breaks off: `byte` counts from 1. Python writes NaN and Infinity, which JSON does not have.
inline std::string json_fault(std::string_view text, std::size_t byte) {
  const auto at    = text.substr(0, std::min(text.size(), byte > 0 ? byte - 1 : 0));
  const auto line  = std::to_string(1 + std::count(at.begin(), at.end(), '\n'));
  const auto begin = at.rfind('\n') + 1;  // 0 in the first line
  for (const std::string_view word : {"NaN", "Infinity"})
    if (text.substr(at.size(), word.size()) == word)
      return "is not JSON: line " + line + " has " + std::string(word) + ", which JSON does not know";
  return "is not JSON: line " + line + ", column " + std::to_string(at.size() - begin + 1);
}

/// Parses an object. Refuses what readers understand differently or recurse into: a key that comes twice, nesting
/// deeper than any file needs. `what` names the text in sentences.
inline nlohmann::json parse_json(std::string_view text, const std::string& what) {
  using event                                = nlohmann::json::parse_event_t;
  static constexpr std::size_t       deepest = 64;
  std::vector<std::set<std::string>> keys;  // of each open object; arrays have none
  const auto                         check = [&](int, event now, nlohmann::json& parsed) {
    if (now == event::object_start || now == event::array_start) keys.emplace_back();
    if (now == event::object_end || now == event::array_end) keys.pop_back();
    if (keys.size() > deepest) throw bad_input(what + " is nested too deeply");
    if (now == event::key && !keys.back().insert(parsed.get<std::string>()).second)
      throw bad_input(what + " has the key " + parsed.get<std::string>() + " twice");
    return true;
  };
  nlohmann::json parsed;
  try {
    parsed = nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::parse_error& error) {
    throw bad_input(what + " " + json_fault(text, error.byte));
  } catch (const nlohmann::json::out_of_range&) {
    throw bad_input(what + " has a number that is too large for any type");
  }
  if (!parsed.is_object()) throw bad_input(what + " is not a JSON object");
  return parsed;
}

}  // namespace engine
