#pragma once
// Selection in a translation unit compiled with -ffast-math (fast_math.cpp).

#include <vector>

#include "cascada/representatives.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace tests {

/// rep of a full selection, or empty on an error.
std::vector<cascada::index_t> fast_math_select(cascada::matrix_view<const float> x, float tau,
                                               cascada::prefilter filter);

/// rep of a cascade step from `before`, or empty on an error.
std::vector<cascada::index_t> fast_math_cascade(cascada::matrix_view<const float> x,
                                                const cascada::representatives& before, float tau);

cascada::status fast_math_status(cascada::matrix_view<const float> x);

}  // namespace tests
