#pragma once
// A selection in device memory, as selection leaves it and attention reads it.

#include "cascada/config.hpp"
#include "cascada/set_stamp.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Representatives of one layer in device memory (representatives.hpp gives the shapes). The stamp is the host's: a
/// call of attention refuses, before it puts anything on the stream, what its owner has replaced by then.
struct selection_layer {
  index_t* indices = nullptr;  // [T], r in use
  index_t* rep     = nullptr;  // [T]; rep[i] = i where there is no selection
  index_t* counts  = nullptr;  // [T], r in use
  index_t* count   = nullptr;  // [1] r, or -1: no selection

  detail::set_stamp stamp = {};  // of what kept() gave
};

}  // namespace cascada::inline CASCADA_ABI::hip
