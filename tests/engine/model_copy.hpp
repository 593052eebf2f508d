#pragma once
// For tests that spoil a model's files, or say the same in other words.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "bad_input.hpp"
#include "engine/decoder.hpp"
#include "engine/file.hpp"

namespace tests {

inline const std::string golden_model = TEST_FOLDER "/golden";

/// A golden model in a folder of its own, to be spoilt.
class model_copy : public scratch_folder {
 public:
  explicit model_copy(const std::string& from) : config_(engine::read_json(from + "/config.json")) {
    for (const auto& entry : std::filesystem::directory_iterator(from))
      if (entry.is_regular_file())
        std::filesystem::copy_file(entry.path(), path() + "/" + entry.path().filename().string());
  }

  /// What loading the model complains about.
  std::string load() const {
    return complaint([&] { engine::decoder model(path()); });
  }
  /// The same with keys of config.json set to other values.
  std::string with(const char* key, const nlohmann::json& value) const { return with({{key, value}}); }
  std::string with(const nlohmann::json& values) const {
    auto changed = config_;
    changed.update(values);
    put(file("config.json"), changed.dump());
    return load();
  }

 private:
  nlohmann::json config_;
};

}  // namespace tests
