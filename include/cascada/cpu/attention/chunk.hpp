#pragma once
// A chunk of the causal walk, and the tokens that it attends to one by one.

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// A chunk of the causal walk: tokens [begin, end) with one near field, which begins at `edge`, and one far field. The
/// tokens from `first` on ask.
struct chunk {
  index_t begin;
  index_t end;
  index_t edge;
  index_t first;
};

/// The tokens that a chunk attends to one by one: all from `edge` on, and the sinks before it.
struct near_field {
  index_t edge, sinks;
};

/// Where all leaves open, that is every token.
CASCADA_INLINE near_field near_field_of(const attention_options& options, const chunk& now) noexcept {
  const index_t edge = detail::opens_everything(options) ? 0 : now.edge;
  return {edge, options.sink_tokens < edge ? options.sink_tokens : edge};
}

/// The chunk of the first query. Its end and edge are left to fill in.
template <class Sequence>
CASCADA_INLINE chunk first_chunk(const Sequence& sequence, const attention_options& options) noexcept {
  return {.begin = sequence.first - sequence.first % options.chunk, .end = 0, .edge = 0, .first = sequence.first};
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
