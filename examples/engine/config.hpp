#pragma once
// A model's config.json, read with a sentence for each thing that is missing.

#include <nlohmann/json.hpp>
#include <string>

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
  int size(const std::string& key) const { return positive(key, get<int>(key)); }
  int size(const std::string& key, int otherwise) const { return positive(key, get<int>(key, otherwise)); }

  const std::string& path() const { return path_; }

 private:
  bool is_missing(const std::string& key) const { return !json_.contains(key) || json_.at(key).is_null(); }

  template <class Value>
  Value as(const std::string& key) const {
    try {
      return json_.at(key).get<Value>();
    } catch (const nlohmann::json::exception&) {
      throw bad_input(key + " in " + path_ + " has the wrong type");
    }
  }

  int positive(const std::string& key, int value) const {
    if (value < 1) throw bad_input(key + " in " + path_ + " must be at least 1");
    return value;
  }

  std::string    path_;
  nlohmann::json json_;
};

}  // namespace engine
