#pragma once
// What holds for all that grows: how much room it gets, and which calls fail.

#include <cstdint>

#include "cascada/hip/base/device.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Room for `needs` tokens: what there is, if that is enough; else for twice as many as there is room for, at least.
CASCADA_INLINE constexpr index_t doubled_room(index_t has, std::int64_t needs) noexcept {
  const std::int64_t most = detail::largest_size, twice = std::int64_t{has} < most / 2 ? 2 * std::int64_t{has} : most;
  return needs <= has ? has : static_cast<index_t>(needs < twice ? twice : needs);
}

/// Tokens that graphs have added, where there was room for `left` more.
[[nodiscard]] CASCADA_INLINE constexpr status check_replayed(index_t tokens, index_t left) noexcept {
  if (tokens < 0) return {status::invalid_shape, "tokens is negative"};
  if (tokens > left) return {status::too_large, "tokens is more than there is memory for"};
  return status::ok;
}

/// Why a call of so many tokens fails on the device, whatever its rows are, or `ok`: an earlier one has, there is no
/// room, or a selection that it needs (null: none) has failed.
CASCADA_DEVICE CASCADA_INLINE status::code answer_of_call(status::code earlier, index_t tokens, index_t left,
                                                          const index_t* selected) noexcept {
  if (earlier != status::ok) return earlier;
  if (tokens > left) return status::too_large;
  return selected && has_failed(selected) ? status::invalid_representatives : status::ok;
}

/// Which tokens a launch looks at: all; or of a sequence that grows those that are there, which the device alone knows.
struct tokens_there {
  const index_t* count = nullptr;  // of a sequence that grows: how many
  const index_t* valid = nullptr;  // the same: negative if the call has failed, which looks at none

  /// How many of `all`, as many as there is room for.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t of(Gpu& gpu, index_t all) const {
    if (!count) return all;
    return gpu.uniform(*valid) < 0 ? 0 : gpu.uniform(*count);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
