// gfx942 multiplies rows of 16 bits.

#include "cascada/hip.hpp"

using namespace cascada;

#if SHOULD_FAIL
using row = float;
#else
using row = bfloat16;
#endif

std::size_t bytes() {
  return sizeof(selector<row, hip_gfx942>) + sizeof(cascade<row, hip_gfx942>) + sizeof(attention<row, hip_gfx942>);
}
