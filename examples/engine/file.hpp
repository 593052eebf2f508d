#pragma once
// Whole files: read, or written so that a reader never sees half of one.

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cascada/config.hpp"
#include "engine/error.hpp"

namespace engine {

/// Writes beside the target, then renames: the file is there whole or not at all.
inline void write_file(const std::string& path, const std::string& bytes) {
  const std::string scratch = path + ".part";
  std::ofstream     file(scratch, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  std::error_code failure;
  if (file) std::filesystem::rename(scratch, path, failure);
  if (file && !failure) return;
  std::remove(scratch.c_str());
  throw bad_input("cannot write " + path);
}

/// Makes a folder, with those above it.
inline void make_folder(const std::string& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (!std::filesystem::is_directory(path)) throw bad_input("cannot make the folder " + path);
}

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw bad_input("cannot open " + path);
  auto parsed = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) throw bad_input(path + " is not a JSON object");
  return parsed;
}

/// The first `length` token ids of a file that holds one per line.
inline std::vector<cascada::index_t> read_tokens(const std::string& path, cascada::index_t length) {
  std::ifstream file(path);
  if (!file) throw bad_input("cannot open " + path);
  std::vector<cascada::index_t> tokens;
  for (cascada::index_t id = 0; static_cast<cascada::index_t>(tokens.size()) < length && file >> id;)
    tokens.push_back(id);
  if (static_cast<cascada::index_t>(tokens.size()) < length)
    throw bad_input(path + " holds " + std::to_string(tokens.size()) + " tokens; " + std::to_string(length) +
                    " were asked for");
  return tokens;
}

}  // namespace engine
