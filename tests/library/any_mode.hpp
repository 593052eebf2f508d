#pragma once
// A test case of attention once for every mode.

#include <cstddef>

#include "attention_data.hpp"
#include "catch.hpp"
#include "sample.hpp"

namespace tests {

inline mode any_mode(std::size_t line = __builtin_LINE()) { return GENERATE_COPY(from_range(sample(modes, line))); }

}  // namespace tests
