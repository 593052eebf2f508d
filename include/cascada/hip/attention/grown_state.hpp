#pragma once
// A sequence that grows, in numbers that the device alone knows. Nothing that a launch is given depends on how many
// tokens there are: a call that was captured in a graph goes on, each time it is replayed, from what is there.

#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/attention/remembered_leaves.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// A call that fails adds nothing and leaves its answer, with which all later ones fail, until tokens are forgotten.
struct grown_state {
  index_t      tokens;  // so far
  index_t      valid;   // of the call at hand: negative if it has failed; nothing is written then
  status::code answer;

  index_t joined;    // tokens that are in leaves, or are sinks
  index_t listed;    // the chunk whose far field is the first that is there, plus 1; 0: none
  index_t from, to;  // of the call at hand: tokens that join

  index_t          remembered;  // from this token on, which leaves were open; before it, at the edges of bands
  remembered_slots slots;       // of the last bands

  /// Before which token all may be in leaves once token `end` - 1 is there.
  CASCADA_DEVICE CASCADA_INLINE index_t joins_until(index_t end, index_t chunk, index_t window) const {
    const index_t edge = edge_of((end - 1) / chunk * chunk, window);
    return edge > joined ? edge : joined;
  }
};

/// Numbers of a sequence that grows, and of a call of it.
struct grown_tokens {
  grown_state* state;  // [1]
  query_range* slices;
};

/// What the kernels of a call are told of it; nothing where a sequence does not grow.
struct growing_call {
  const query_range* slices = nullptr;
  const index_t*     valid  = nullptr;  // [1]
  grown_tokens       of     = {};
  grown_leaves       leaves = {};
  index_t            fields = 0, count = 1;  // far fields of a slice; slices
  index_t            parts = 0, part = 0;    // of a slice: chunks or bands; their tokens
  index_t            most       = 0;         // tokens that may join leaves
  remembered_leaves  remembered = {};
  grown_chains       chains     = {};
  grown_clusters     clusters   = {};
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
