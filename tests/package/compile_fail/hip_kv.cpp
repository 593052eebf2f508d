// gfx942 reads strided keys and values, and says so of any others.

#include "cascada/hip.hpp"

using namespace cascada;

status attend(attention<bfloat16, hip_gfx942>& on_device, heads_view<const bfloat16> q,
              const strided_kv<bfloat16>& rows, [[maybe_unused]] const paged_kv<bfloat16>& pages,
              const hip::selection_layer& kept, heads_view<bfloat16> out) {
#if SHOULD_FAIL
  return on_device(q, pages, kept, out);
#else
  return on_device(q, rows, kept, out);
#endif
}
