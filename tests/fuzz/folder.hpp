#pragma once
// For fuzzing of readers of files: a folder of this process, in memory where there is such a place.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "engine/error.hpp"
#include "input.hpp"

namespace fuzz {

class folder {
 public:
  folder() {
    path_ = (std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path().string()) +
            "/cascada-fuzz-XXXXXX";
    require(mkdtemp(path_.data()) != nullptr);
  }
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  /// Copies all files of a folder into this one.
  void copy(const std::string& from) const {
    for (const auto& entry : std::filesystem::directory_iterator(from))
      if (entry.is_regular_file())
        std::filesystem::copy_file(entry.path(), path_ + "/" + entry.path().filename().string());
  }

  void put(const std::string& name, const std::uint8_t* data, std::size_t size) const {
    std::ofstream(path_ + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Bad input is to be refused in a sentence; any other exception ends the process.
template <class Body>
void refuses_or_reads(const Body& body) {
  try {
    body();
  } catch (const engine::bad_input& refusal) {
    require(refusal.what()[0] != '\0');
  }
}

}  // namespace fuzz
