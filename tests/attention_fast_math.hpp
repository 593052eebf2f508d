#pragma once
// Attention in a translation unit compiled with -ffast-math (attention_fast_math.cpp).

#include <vector>

#include "attention_data.hpp"

namespace tests {

attended fast_math_attend(const attention_options& options, const problem<float>& p,
                          const std::vector<selection>& selections);

/// By products of bfloat16 if the target has them, or by floats.
attended fast_math_attend(const attention_options& options, const problem<cascada::bfloat16>& p,
                          const std::vector<selection>& selections);
attended fast_math_attend_by_floats(const attention_options& options, const problem<cascada::bfloat16>& p,
                                    const std::vector<selection>& selections);

cascada::status fast_math_check(const attention_options& options);

}  // namespace tests
