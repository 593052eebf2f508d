// Compiled with -ffast-math and linked without it (linking with it would turn subnormals off).

#include "fast_math.hpp"

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"

#ifndef __FAST_MATH__
#error "this file tests -ffast-math and has to be compiled with it"
#endif

namespace tests {

using namespace cascada;

std::vector<index_t> fast_math_select(matrix_view<const float> x, float tau, prefilter filter) {
  selector<float> select({.threshold = tau, .filter = filter});
  if (select(x) != status::ok) return {};
  const auto rep = select.kept().rep;
  return {rep.begin(), rep.end()};
}

std::vector<index_t> fast_math_cascade(matrix_view<const float> x, const representatives& before, float tau) {
  cascade<float> walk({.threshold = tau});
  if (walk.inherit(before) != status::ok || walk.step(x) != status::ok) return {};
  const auto rep = walk.kept().rep;
  return {rep.begin(), rep.end()};
}

status fast_math_status(matrix_view<const float> x) { return selector<float>()(x); }

}  // namespace tests
