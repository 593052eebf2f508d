#pragma once
// A model's config.json, read with a sentence for each thing that is missing, wrong, or unknown.

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

#include "engine/error.hpp"
#include "engine/file.hpp"

namespace engine {

/// A key that is there with the value null counts as missing, but for `contains`.
class config {
 public:
  explicit config(const std::string& path) : config(path, read_json(path)) {}

  bool contains(const std::string& key) const { return json_.contains(key); }
  bool has(const std::string& key) const { return contains(key) && !json_.at(key).is_null(); }

  /// A value that must be there: std::string or bool.
  template <class Value>
  Value get(const std::string& key) const {
    require(key);
    return as<Value>(key);
  }
  /// A value with a default for where it is missing.
  template <class Value>
  Value get(const std::string& key, Value otherwise) const {
    return has(key) ? as<Value>(key) : otherwise;
  }

  /// A size: an integer of at least 1.
  int size(const std::string& key) const { return require(key), size(key, 1); }
  int size(const std::string& key, int otherwise) const {
    static constexpr std::int64_t most = 1 << 24;  // so that a few of them added up still are an index_t
    if (!has(key)) return otherwise;
    const nlohmann::json& value = json_.at(key);
    if (!value.is_number_integer()) throw wrong_type(key);
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most);
    const auto size = huge ? most + 1 : value.get<std::int64_t>();
    if (size < 1) throw bad_input(key + " in " + path_ + " must be at least 1");
    if (size > most) throw bad_input(key + " in " + path_ + " must be at most " + std::to_string(most));
    return static_cast<int>(size);
  }

  /// A positive number that a float can hold.
  float positive(const std::string& key) const { return require(key), positive(key, 1); }
  float positive(const std::string& key, float otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_.at(key).is_number()) throw wrong_type(key);
    const auto value = json_.at(key).get<double>();
    if (!(value <= static_cast<double>(std::numeric_limits<float>::max()) && static_cast<float>(value) > 0))
      throw bad_input(key + " in " + path_ + " must be positive and finite as a float");
    return static_cast<float>(value);
  }

  /// An object inside, whose sentences name both; none where it is missing or empty.
  std::optional<config> section(const std::string& key) const {
    if (!has(key)) return std::nullopt;
    if (!json_.at(key).is_object()) throw wrong_type(key);
    if (json_.at(key).empty()) return std::nullopt;
    return config(key + " in " + path_, json_.at(key));
  }

  /// Refuses keys that a reader does not know: what they say may change the mathematics.
  void require_known(const std::set<std::string>& known) const {
    for (const auto& [key, value] : json_.items())
      if (known.count(key) == 0 && !value.is_null()) throw bad_input(path_ + ": " + key + " is not supported");
  }

  /// Refuses a key unless its value says "as usual": missing, null, false, empty, or `usual`.
  void require_usual(const std::string& key, const nlohmann::json& usual = nullptr) const {
    if (!has(key)) return;
    const nlohmann::json& value = json_.at(key);
    const bool            empty = (value.is_array() || value.is_object()) && value.empty();
    if (value != false && !empty && value != usual) throw bad_input(path_ + ": " + key + " is not supported");
  }

  const std::string&    path() const { return path_; }
  const nlohmann::json& json() const { return json_; }

 private:
  config(std::string path, nlohmann::json json) : path_(std::move(path)), json_(std::move(json)) {}

  void require(const std::string& key) const {
    if (!has(key)) throw bad_input(path_ + " has no " + key);
  }

  bad_input wrong_type(const std::string& key) const { return bad_input(key + " in " + path_ + " has the wrong type"); }

  /// The conversions of nlohmann::json would take true for 1, so types have to be the same.
  template <class Value>
  Value as(const std::string& key) const {
    static_assert(std::is_same_v<Value, std::string> || std::is_same_v<Value, bool>);
    const nlohmann::json& value = json_.at(key);
    if (std::is_same_v<Value, bool> ? !value.is_boolean() : !value.is_string()) throw wrong_type(key);
    return value.get<Value>();
  }

  std::string    path_;
  nlohmann::json json_;
};

}  // namespace engine
