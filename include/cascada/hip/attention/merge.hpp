#pragma once
// merge on gfx942 is not there: it says so.

#include "cascada/hip/base/backend.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI {

/// The CPU merges (attention_merge.hpp), also what gfx942 wrote, once it is in the host's memory.
template <gfx942_backend B, class First, class... Others>
status merge(const First&, const Others&...) {
  static_assert(sizeof(First) == 0, "merge on gfx942: there is none; the CPU's merge has it");
  return status::unsupported_by_device;
}

}  // namespace cascada::inline CASCADA_ABI
