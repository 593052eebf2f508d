#pragma once
// A model's config.json, read with a sentence for each thing that is missing.

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>

#include "engine/error.hpp"
#include "engine/file.hpp"

namespace engine {

class config {
 public:
  explicit config(std::string path) : path_(std::move(path)), json_(read_json(path_)) {}

  /// A value that must be there.
  template <class Value>
  Value get(const std::string& key) const {
    if (is_missing(key)) throw bad_input(path_ + " has no " + key);
    return as<Value>(key);
  }

  /// A value with a default for where it is missing or null.
  template <class Value>
  Value get(const std::string& key, Value otherwise) const {
    return is_missing(key) ? otherwise : as<Value>(key);
  }

  /// A size: at least 1.
  int size(const std::string& key) const { return checked_size(key, get<std::int64_t>(key)); }
  int size(const std::string& key, int otherwise) const { return checked_size(key, get<std::int64_t>(key, otherwise)); }

  /// A positive number.
  float positive(const std::string& key) const { return checked_positive(key, get<float>(key)); }
  float positive(const std::string& key, float otherwise) const {
    return checked_positive(key, get<float>(key, otherwise));
  }

  const std::string& path() const { return path_; }

 private:
  bool is_missing(const std::string& key) const { return !json_.contains(key) || json_.at(key).is_null(); }

  template <class Value>
  Value as(const std::string& key) const {
    const nlohmann::json& value = json_.at(key);
    // The conversions of nlohmann::json would cut 1.5 to 1 and take true for it.
    const bool fits = std::is_same_v<Value, bool>       ? value.is_boolean()
                      : std::is_integral_v<Value>       ? value.is_number_integer()
                      : std::is_floating_point_v<Value> ? value.is_number()
                                                        : true;
    try {
      if (fits) return value.get<Value>();
    } catch (const nlohmann::json::exception&) {
    }
    throw bad_input(key + " in " + path_ + " has the wrong type");
  }

  int checked_size(const std::string& key, std::int64_t value) const {
    static constexpr std::int64_t most = 1 << 24;  // so that a few of them added up still are an index_t
    if (value < 1) throw bad_input(key + " in " + path_ + " must be at least 1");
    if (value > most) throw bad_input(key + " in " + path_ + " must be at most " + std::to_string(most));
    return static_cast<int>(value);
  }

  float checked_positive(const std::string& key, float value) const {
    if (!(value > 0 && value <= std::numeric_limits<float>::max()))
      throw bad_input(key + " in " + path_ + " must be positive and finite");
    return value;
  }

  std::string    path_;
  nlohmann::json json_;
};

}  // namespace engine
