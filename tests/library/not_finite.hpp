#pragma once
// Numbers that are not finite.

#include <limits>

namespace tests {

inline constexpr float infinity     = std::numeric_limits<float>::infinity();
inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace tests
