#pragma once
// The launches that resolve the stretches of a call, one after the other.

#include "cascada/hip/base/launches.hpp"
#include "cascada/hip/select/advance.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// The advance through all stretches of a call.
template <gfx942_stream B, matrix_scalar Scalar, template <class> class Rows>
void launch_advance(launches<B>& launch, const selection_call<Scalar, Rows>& call) {
  for (index_t s = 0; s < call.stretches(); ++s)
    if (call.assign == assignment::nearest)
      launch(selection_advance<Scalar, assignment::nearest, Rows>{call, s});
    else
      launch(selection_advance<Scalar, assignment::lowest_index, Rows>{call, s});
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
