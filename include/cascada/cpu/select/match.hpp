#pragma once
// What a searching token has found.

#include "cascada/backend.hpp"
#include "cascada/cpu/gram/verdict.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

using namespace gram;

/// A covering representative: its position in R, and the pair's product.
template <cpu_backend B>
struct match {
  index_t       position = -1;
  pair_value<B> value    = {};
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
