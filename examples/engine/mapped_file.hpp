#pragma once
// A file's bytes in memory, read from the disk as they are touched.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "engine/error.hpp"

namespace engine {

/// The whole of a file, mapped read-only. Whoever shortens the file while it is mapped ends the program with SIGBUS.
class mapped_file {
 public:
  explicit mapped_file(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw bad_input("cannot open " + path);
    struct stat about {};
    const bool  known  = ::fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    bool        mapped = known;
    if (known && about.st_size > 0) {
      size_  = static_cast<std::size_t>(about.st_size);
      bytes_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
      mapped = bytes_ != MAP_FAILED;
    }
    ::close(file);
    if (!mapped) throw bad_input("cannot map " + path);
  }
  mapped_file(const mapped_file&)            = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() {
    if (size_ > 0) ::munmap(bytes_, size_);
  }

  const std::byte* data() const { return static_cast<const std::byte*>(bytes_); }
  std::size_t      size() const { return size_; }

 private:
  void*       bytes_ = nullptr;
  std::size_t size_  = 0;
};

}  // namespace engine
