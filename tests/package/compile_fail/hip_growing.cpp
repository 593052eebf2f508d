// On gfx942 nothing grows yet, and the classes that do so elsewhere say it.

#include "cascada/hip.hpp"

using namespace cascada;

#if SHOULD_FAIL
using device = hip_gfx942;
#else
using device = default_backend;
#endif

index_t tokens(const attention_state<bfloat16, device>* state, const growing_selection<bfloat16, device>* selection) {
#if SHOULD_FAIL
  return state->tokens() + selection->tokens();
#else
  return state || selection;
#endif
}
