#pragma once
// Memory of an object whose contents mean nothing between calls.

#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/gram/products.hpp"
#include "cascada/cpu/select/owned_set.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

using namespace gram;

/// Memory of an object: made once for a shape and kept, so that the calls after it allocate nothing.
template <cpu_backend B>
struct selection_memory {
  product_workspace<B> products;
  selection_state<B>   now;                  // the set that a call makes
  buffer<float, B>     norms, scaled_norms;  // [T]
  buffer<index_t, B>   position, additions;  // [T], for counting

  /// For T tokens of d elements and up to `limit` representatives.
  void reserve(index_t T, index_t d, index_t limit) {
    norms.reserve(T), scaled_norms.reserve(T), position.reserve(T), additions.reserve(T);
    products.reserve(limit, d);
    now.reserve(T, limit);
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
