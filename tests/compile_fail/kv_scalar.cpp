// Keys and values of another scalar than the queries.

#include "cascada/cpu/attention/attention.hpp"

using namespace cascada;

#if SHOULD_FAIL
using kv_scalar = bfloat16;
#else
using kv_scalar = float;
#endif

status attend(heads_view<const float> q, const strided_kv<kv_scalar>& kv, heads_view<float> out) {
  return attention<float>()(q, kv, {}, out);
}
