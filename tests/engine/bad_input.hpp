#pragma once
// For tests of bad input: a scratch folder, files in it, and the sentence that a program would print.

#include <filesystem>
#include <fstream>
#include <string>

#include "catch.hpp"
#include "engine/error.hpp"

namespace tests {

/// A folder that goes away with the test.
class scratch_folder {
 public:
  scratch_folder() {
    path_ = (std::filesystem::temp_directory_path() / "cascada-XXXXXX").string();
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~scratch_folder() { std::filesystem::remove_all(path_); }
  std::string        file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void put(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

inline std::string with_header(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

/// The sentence of the error that `body` raises; empty if it raises none.
template <class Body>
std::string complaint(Body&& body) {
  try {
    body();
  } catch (const engine::bad_input& error) {
    return error.what();
  }
  return "";
}

inline bool mentions(const std::string& sentence, const std::string& words) {
  CAPTURE(sentence, words);
  return sentence.find(words) != std::string::npos;
}

}  // namespace tests
