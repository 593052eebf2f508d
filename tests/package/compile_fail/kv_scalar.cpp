// Keys and values of a wider scalar than the queries.

#include "cascada/cpu/attention/attention.hpp"

using namespace cascada;

#if SHOULD_FAIL
using kv_scalar = float;
#else
using kv_scalar = bfloat16;
#endif

status attend(heads_view<const bfloat16> q, const strided_kv<kv_scalar>& kv, heads_view<bfloat16> out) {
  return attention<bfloat16>()(q, kv, {}, out);
}
