#pragma once
// What the functions that Python calls have in common: how they are exported, and the types of rows.

#include "cascada/scalar.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace bench {

enum row_kind : int { f32, bf16, f16 };

/// function(Scalar{}) for the type of rows.
template <class Function>
auto with_rows(int kind, const Function& function) {
  switch (kind) {
    case bf16: return function(cascada::bfloat16{});
    case f16: return function(cascada::float16{});
    default: return function(float{});
  }
}

}  // namespace bench
