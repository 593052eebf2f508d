#pragma once
// Attention in a translation unit compiled with -ffast-math (attention_fast_math.cpp).

#include <vector>

#include "attention_data.hpp"
#include "cascada/cpu/attention/merge.hpp"

namespace tests {

attended fast_math_attend(const attention_options& options, const problem<float>& p,
                          const std::vector<selection>& selections);

/// By products of bfloat16 if the target has them, or by floats.
attended fast_math_attend(const attention_options& options, const problem<cascada::bfloat16>& p,
                          const std::vector<selection>& selections);
attended fast_math_attend_by_floats(const attention_options& options, const problem<cascada::bfloat16>& p,
                                    const std::vector<selection>& selections);

/// The results of a sequence that grows: `prompt` tokens at once, then one by one. Empty where a call is refused.
template <cascada::row_scalar Scalar, cascada::cpu_backend B = test_backend>
std::vector<float> strict_decode(const attention_options& options, const problem<Scalar>& p, const selection& s,
                                 index_t prompt) {
  const shape&                        size = p.size;
  head_rows<float>                    out(size.tokens, size.heads, size.value_dim);
  cascada::attention<Scalar, B>       attend(options);
  cascada::attention_state<Scalar, B> state;
  for (index_t begin = 0, count = prompt; begin < size.tokens; begin += count, count = 1) {
    const auto q = rows_of(p.q.view(), begin, begin + count);
    if (attend.extend(state, q, p.kv(), s.view(), rows_of(out.view(), begin, begin + count)) != cascada::status::ok)
      return {};
  }
  return out.template packed<float>();
}
std::vector<float> fast_math_decode(const attention_options& options, const problem<cascada::float16>& p,
                                    const selection& s, index_t prompt);

/// merge() of one row.
void fast_math_merge(const std::vector<float>& first, float first_lse, const std::vector<float>& second,
                     float second_lse, std::vector<float>& out, float& lse);
template <cascada::cpu_backend B = cascada::default_backend>
void strict_merge(const std::vector<float>& first, float first_lse, const std::vector<float>& second, float second_lse,
                  std::vector<float>& out, float& lse) {
  const auto dim = static_cast<index_t>(first.size());
  const auto row = [&](const auto& of) { return cascada::packed_heads(of.data(), 1, 1, dim); };
  if (cascada::merge<B>(row(first), {&first_lse, 1, 1, 1}, row(second), {&second_lse, 1, 1, 1},
                        cascada::packed_heads(out.data(), 1, 1, dim), {&lse, 1, 1, 1}) != cascada::status::ok)
    out.clear();
}

cascada::status fast_math_check(const attention_options& options);

}  // namespace tests
