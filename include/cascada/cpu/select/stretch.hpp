#pragma once
// A stretch of tokens, settled before the next: what is known of each of them.

#include <cstdint>

#include "cascada/cpu/select/call.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Tokens of a stretch: as many as have bounds at a time.
inline constexpr index_t stretch_tokens = numbered_tokens;

/// What is known of a token of the stretch before its products with earlier representatives are asked for.
enum class inherited_evidence : std::uint8_t {
  none,          // nothing: compare it with every earlier representative
  covered,       // it has its representative
  waits,         // it inherits a token of the stretch that does not cover it, but might be replaced by one that does
  waits_covered  // it inherits a token of the stretch that covers it, and might be replaced
};

CASCADA_INLINE constexpr bool waiting(inherited_evidence evidence) noexcept {
  return evidence >= inherited_evidence::waits;
}

/// Tokens [begin, end), at most stretch_tokens; of each, by its number in the stretch:
template <cpu_backend B>
struct selection_stretch {
  index_t            begin, end;
  inherited_evidence evidence[stretch_tokens] = {};
  match<B>           found[stretch_tokens]    = {};  // among the representatives it was compared with

  CASCADA_INLINE index_t local(index_t token) const noexcept { return token - begin; }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
