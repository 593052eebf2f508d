// On gfx942 keys and values of sequences that grow lie in rows, in pages, or transposed, in the type of the queries; of
// another type it says so.

#include "cascada/hip.hpp"

using namespace cascada;

status extend(attention<bfloat16, hip_gfx942>& on_device, attention_state<bfloat16, hip_gfx942>& state,
              heads_view<const bfloat16> q, const transposed_value_kv<bfloat16>& transposed,
              [[maybe_unused]] const strided_kv<float16>& others, const hip::selection_layer& kept,
              heads_view<bfloat16> out) {
#if SHOULD_FAIL
  return on_device.extend(state, q, others, kept, out);
#else
  return on_device.extend(state, q, transposed, kept, out);
#endif
}
