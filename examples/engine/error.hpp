#pragma once
// Input that the user can mend. Programs print the sentence and leave with exit code 2.

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "cascada/status.hpp"

namespace engine {

struct bad_input : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The library refused: the sentence of its status, with where it happened.
inline void require_ok(cascada::status answer, const char* where) {
  if (answer != cascada::status::ok) throw bad_input(std::string(where) + ": " + cascada::message(answer));
}

/// Runs a program's body; turns exceptions into one sentence on stderr and an exit code.
template <class Body>
int run_program(const char* name, Body&& body) {
  try {
    return body();
  } catch (const bad_input& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace engine
