// gfx942 reads keys and values that are there, in the type of the queries, and says so of any others.

#include "cascada/hip.hpp"
#include "cascada/q8_0.hpp"

using namespace cascada;

status attend(attention<bfloat16, hip_gfx942>& on_device, heads_view<const bfloat16> q, const paged_kv<bfloat16>& pages,
              [[maybe_unused]] const strided_kv<q8_0_block>& computed,
              [[maybe_unused]] const strided_kv<float16>& others, const hip::selection_layer& kept,
              heads_view<bfloat16> out) {
#if SHOULD_FAIL
  if (const status answer = on_device(q, others, kept, out); answer != status::ok) return answer;
  return on_device(q, computed, kept, out);
#else
  return on_device(q, pages, kept, out);
#endif
}
