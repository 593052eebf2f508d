#pragma once
// Whole files: read, or written so that a reader never sees half of one.

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "cascada/config.hpp"
#include "engine/error.hpp"
#include "engine/json.hpp"
#include "engine/mapped_file.hpp"

namespace engine {

/// Whether anything has this name, a link that leads nowhere or a file that cannot be looked at included.
inline bool is_there(const std::string& path) {
  std::error_code failure;
  return std::filesystem::symlink_status(path, failure).type() != std::filesystem::file_type::not_found;
}

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

/// Sees before the work whether write_file can write there after it. Leaves nothing behind.
inline void require_writable(const std::string& path) {
  std::error_code failure;
  const auto      type = std::filesystem::status(path, failure).type();
  if (type != std::filesystem::file_type::not_found && type != std::filesystem::file_type::regular)
    throw bad_input("cannot write " + path + ": it is no regular file");
  const std::string scratch = path + ".part";
  const bool        opened  = std::ofstream(scratch, std::ios::binary).is_open();
  if (opened) std::remove(scratch.c_str());
  if (!opened) throw bad_input("cannot write " + path);
}

/// Makes a folder, with those above it.
inline void make_folder(const std::string& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (!std::filesystem::is_directory(path, failure)) throw bad_input("cannot make the folder " + path);
}

inline nlohmann::json read_json(const std::string& path) { return parse_json(mapped_file(path).text(), path); }

/// The token ids of a file that holds one per line, but no more than `most`.
inline std::vector<cascada::index_t> read_tokens_up_to(const std::string& path, cascada::index_t most) {
  static constexpr std::string_view space = " \t\r\n";
  const mapped_file                 file(path);
  std::string_view                  rest = file.text();
  std::vector<cascada::index_t>     tokens;
  const auto skip = [&] { rest.remove_prefix(std::min(rest.find_first_not_of(space), rest.size())); };
  for (skip(); !rest.empty() && static_cast<cascada::index_t>(tokens.size()) < most; skip()) {
    const std::string_view word = rest.substr(0, rest.find_first_of(space));
    cascada::index_t       id   = 0;
    const auto             read = std::from_chars(word.data(), word.data() + word.size(), id);
    if (read.ec != std::errc{} || read.ptr != word.data() + word.size())
      throw bad_input("word " + std::to_string(tokens.size() + 1) + " of " + path +
                      " is no token id: " + std::string(word.substr(0, 40)));
    tokens.push_back(id);
    rest.remove_prefix(word.size());
  }
  return tokens;
}

/// The first `length` of them.
inline std::vector<cascada::index_t> read_tokens(const std::string& path, cascada::index_t length) {
  auto tokens = read_tokens_up_to(path, length);
  if (static_cast<cascada::index_t>(tokens.size()) < length)
    throw bad_input(path + " holds " + std::to_string(tokens.size()) + " tokens; " + std::to_string(length) +
                    " were asked for");
  return tokens;
}

}  // namespace engine
