#pragma once
// A file's bytes in memory, read from the disk as they are touched.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "engine/error.hpp"

namespace engine {

/// The whole of a regular file, mapped read-only; folders, pipes and devices are refused, and none is waited for.
/// Whoever shortens the file while it is mapped ends the program with SIGBUS.
class mapped_file {
 public:
  explicit mapped_file(const std::string& path) {
    if (path.find('\0') != std::string::npos) throw bad_input("cannot open " + path + ": the name has a null in it");
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for its writer
    if (file < 0) throw bad_input("cannot open " + path + ": " + std::strerror(errno));
    struct stat about{};
    const bool  regular = ::fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    bool        mapped  = regular;
    if (regular && about.st_size > 0) {
      size_  = static_cast<std::size_t>(about.st_size);
      bytes_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
      mapped = bytes_ != MAP_FAILED;
    }
    ::close(file);
    if (!regular) throw bad_input("cannot open " + path + ": it is no regular file");
    if (!mapped) throw bad_input("cannot map " + path);
  }
  mapped_file(const mapped_file&)            = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() {
    if (size_ > 0) ::munmap(bytes_, size_);
  }

  const std::byte* data() const { return static_cast<const std::byte*>(bytes_); }
  std::size_t      size() const { return size_; }
  std::string_view text() const { return {static_cast<const char*>(bytes_), size_}; }

 private:
  void*       bytes_ = nullptr;
  std::size_t size_  = 0;
};

}  // namespace engine
