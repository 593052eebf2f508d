#pragma once
// A selection of the device in the host's memory.

#include "cascada/config.hpp"
#include "cascada/owned_representatives.hpp"
#include "cascada/selection_report.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// A selection copied to the host.
struct downloaded_selection : owned_representatives {
  selection_report report;
};

}  // namespace cascada::inline CASCADA_ABI::hip
