// What gfx942 lacks beside the CPU is refused with a sentence, not by a name that nobody knows.

#include "cascada/hip.hpp"

using namespace cascada;

status call(selector<bfloat16, hip_gfx942>& select, const attention<bfloat16, hip_gfx942>& attend,
            matrix_view<const bfloat16> x) {
#if SHOULD_FAIL
  (void)attend.report();
  return select.literal(x);
#else
  (void)attend;
  return select(x);
#endif
}
