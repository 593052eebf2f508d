#pragma once
// What is going on, on stderr: one line that is rewritten on a terminal, one line for each pass elsewhere.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace engine {

/// Wall time in seconds since construction.
class stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(clock::now() - start_).count(); }

 private:
  using clock              = std::chrono::steady_clock;
  clock::time_point start_ = clock::now();
};

/// One pass of the model through its layers, or of several passes through the pieces of a text.
class progress {
 public:
  progress(std::string what, int count, const char* unit = "layer")
      : what_(std::move(what)), unit_(unit), count_(count) {}

  void step(int index) const {
    if (terminal_) std::fprintf(stderr, "\r%-28s %s %2d/%d", what_.c_str(), unit_, index + 1, count_);
  }
  void done() const {
    std::fprintf(stderr, "%s%-28s %d %ss, %.1f s\n", terminal_ ? "\r" : "", what_.c_str(), count_, unit_,
                 watch_.seconds());
  }

 private:
  std::string what_;
  const char* unit_;
  int         count_;
  bool        terminal_ = isatty(STDERR_FILENO) == 1;
  stopwatch   watch_;
};

}  // namespace engine
