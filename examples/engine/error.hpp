#pragma once
// Input that the user can mend. Programs print the sentence and leave with exit code 2.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "cascada/status.hpp"

namespace engine {

struct bad_input : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The library refused: the sentence of its status, with where it happened.
inline void require_ok(cascada::status answer, const char* where) {
  if (answer != cascada::status::ok) throw bad_input(std::string(where) + ": " + cascada::message(answer));
}

/// One line for a terminal: sentences quote names out of files, which may hold anything.
inline std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text;
}

inline void warn(const std::string& sentence) { std::fprintf(stderr, "warning: %s\n", one_line(sentence).c_str()); }

/// One line about tensors of a model that it does not use: it may be another model than its config.json says.
inline void warn_of_unused(const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::string list;
  for (std::size_t i = 0; i < names.size() && i < 3; ++i) list += (i == 0 ? " " : ", ") + names[i];
  warn("the model does not use " + std::to_string(names.size()) + " of its tensors:" + list +
       (names.size() > 3 ? ", ..." : ""));
}

/// Runs a program's body; turns exceptions, and a stdout that takes no more, into one sentence on stderr and an exit
/// code.
template <class Body>
int run_program(const char* name, Body&& body) {
  const auto complain = [&](const std::string& sentence, int code) {
    std::fprintf(stderr, "%s: %s\n", name, one_line(sentence).c_str());
    return code;
  };
  try {
    const int  code   = body();
    const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
    return failed ? complain("cannot write to stdout", 2) : code;
  } catch (const bad_input& error) {
    return complain(error.what(), 2);
  } catch (const std::bad_alloc&) {
    return complain("there is not enough memory", 2);
  } catch (const std::system_error& error) {  // no more threads, a file system that fails
    return complain(error.what(), 2);
  } catch (const std::exception& error) {
    return complain(error.what(), 1);
  }
}

}  // namespace engine
