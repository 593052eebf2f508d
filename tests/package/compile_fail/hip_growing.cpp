// On gfx942 what grows is not saved; the classes say it.

#include "cascada/cascada.hpp"
#include "cascada/hip.hpp"

using namespace cascada;

#if SHOULD_FAIL
using device = hip_gfx942;
#else
using device = default_backend;
#endif

bool saved(attention<bfloat16, device>& attend, attention_state<bfloat16, device>& state,
           const strided_kv<bfloat16>& kv, std::span<std::byte> bytes) {
  return state.save(bytes) == status::ok && attend.load(state, kv, std::span<const std::byte>(bytes)) == status::ok;
}

bool saved(growing_selection<bfloat16, device>& selection, std::span<std::byte> bytes) {
  return selection.save(bytes) == status::ok && selection.load(bytes) == status::ok;
}
