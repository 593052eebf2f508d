// Compiled with -ffast-math and linked without it (linking with it would turn subnormals off).

#include "attention_fast_math.hpp"

#ifndef __FAST_MATH__
#error "this file tests -ffast-math and has to be compiled with it"
#endif

namespace tests {

using namespace cascada;

attended fast_math_attend(const attention_options& options, const problem<float>& p,
                          const std::vector<selection>& selections) {
  return attend_and_report<float>(options, p, p.kv(), selections);
}

attended fast_math_attend(const attention_options& options, const problem<bfloat16>& p,
                          const std::vector<selection>& selections) {
  return attend_and_report<float>(options, p, p.kv(), selections);
}

attended fast_math_attend_by_floats(const attention_options& options, const problem<bfloat16>& p,
                                    const std::vector<selection>& selections) {
  return attend_and_report<float>(options, p, p.kv(), selections, {},
                                  backend_without<isa::amx_bf16 | isa::avx512_bf16>());
}

std::vector<float> fast_math_decode(const attention_options& options, const problem<float16>& p, const selection& s,
                                    index_t prompt) {
  return strict_decode(options, p, s, prompt);
}

void fast_math_merge(const std::vector<float>& first, float first_lse, const std::vector<float>& second,
                     float second_lse, std::vector<float>& out, float& lse) {
  strict_merge(first, first_lse, second, second_lse, out, lse);
}

status fast_math_check(const attention_options& options) {
  head_rows<float>               q(1, 1, 1), out(1, 1, 1);
  const head_rows<float>         kv(1, 1, 1);
  attention<float, test_backend> attend(options);
  return attend(std::as_const(q).view(), strided_kv<float>{kv.view(), kv.view()}, views({identity_selection(1)}),
                out.view());
}

}  // namespace tests
