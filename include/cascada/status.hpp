#pragma once
// What a stage answers. Anything but `ok` leaves outputs and state as they were.

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

enum class [[nodiscard]] status : int {
  ok,
  invalid_shape,            // null data, negative rows, no columns, stride < cols, or outputs too short
  invalid_threshold,        // not in (0, 1]
  invalid_representatives,  // a state that no selection of these tokens could have left
  non_finite_token,         // a row has NaN or Inf, or its squared norm overflows
  too_large,                // the product of sizes overflows
  workspace_too_small,      // more representatives than max_representatives
  unsupported,              // options that make no sense together
  device_error,             // the accelerator's runtime failed; its own code is kept beside
};

/// One sentence for a person, without a full stop.
[[nodiscard]] CASCADA_INLINE constexpr const char* message(status value) noexcept {
  switch (value) {
    case status::ok: return "ok";
    case status::invalid_shape: return "null data, negative rows, no columns, stride < cols, or outputs too short";
    case status::invalid_threshold: return "the threshold must lie in (0, 1]";
    case status::invalid_representatives: return "the representatives are not a selection of these tokens";
    case status::non_finite_token: return "a token has NaN or Inf, or its squared norm overflows";
    case status::too_large: return "the product of sizes overflows";
    case status::workspace_too_small: return "more representatives than max_representatives";
    case status::unsupported: return "these options make no sense together";
    case status::device_error: return "the accelerator's runtime reported an error";
  }
  return "unknown status";
}

}  // namespace cascada::inline CASCADA_ABI
