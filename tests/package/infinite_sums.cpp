// What a program has computed itself is infinite or NaN all the same, compiled with -ffast-math.

#include <cascada/finite.hpp>

#ifndef __FAST_MATH__
#error "this file tests -ffast-math and has to be compiled with it"
#endif

namespace {

volatile float  large = 0x1p127f, zero = 0.0f;  // no compiler knows them
volatile double endless = 0x1p1023;

bool passes(float value) {
  using namespace cascada::detail;
  return is_finite(value) || positive_up_to(value, 0x1.fffffep127f) || from_zero_to(value, 0x1.fffffep127f);
}

}  // namespace

int main() {
  using namespace cascada::detail;
  const float infinite = large + large;
  if (!is_finite(large + zero) || !positive_up_to(large + zero, 0x1p127f) || !from_zero_to(zero + zero, 0x1p127f))
    return 1;
  if (passes(infinite) || passes(-large - large) || passes(infinite * zero)) return 2;
  if (from_zero_to(endless + endless, 0x1.fffffffffffffp1023)) return 3;
  return 0;
}
