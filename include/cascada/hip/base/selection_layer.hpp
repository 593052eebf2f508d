#pragma once
// A selection in device memory, as selection leaves it and attention reads it.

#include "cascada/config.hpp"
#include "cascada/set_stamp.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Whether a selection has failed, by its count: known to the device alone.
CASCADA_DEVICE CASCADA_INLINE bool has_failed(const index_t* count) { return *count < 0; }

/// View of the representatives of one layer in device memory (representatives.hpp gives the shapes). T and the stamp
/// are the host's: a call of attention refuses, before it puts anything on the stream, a set of another length and one
/// that its owner has replaced by then. r is the device's alone.
struct selection_layer {
  const index_t* indices = nullptr;  // [T], r in use
  const index_t* rep     = nullptr;  // [T]; rep[i] = i where there is no selection
  const index_t* counts  = nullptr;  // [T], r in use
  const index_t* count   = nullptr;  // [1] r; negative: the selection has failed, and there is none
  index_t        length  = 0;        // T

  detail::set_stamp stamp = {};  // of what kept() gave

  index_t tokens() const noexcept { return length; }

  CASCADA_DEVICE CASCADA_INLINE bool failed() const { return has_failed(count); }
};

}  // namespace cascada::inline CASCADA_ABI::hip
