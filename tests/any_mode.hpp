#pragma once
// A test case of attention once for every mode.

#include "attention_data.hpp"
#include "catch.hpp"

namespace tests {

inline mode any_mode() { return GENERATE(from_range(modes.begin(), modes.end())); }

}  // namespace tests
