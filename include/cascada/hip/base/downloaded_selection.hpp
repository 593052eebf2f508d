#pragma once
// A selection of the device in the host's memory.

#include <vector>

#include "cascada/config.hpp"
#include "cascada/report.hpp"
#include "cascada/representatives.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// A selection copied to the host.
struct downloaded_selection {
  std::vector<index_t> indices, rep, counts;
  selection_report     report;

  representatives view() const noexcept { return {indices, rep, counts}; }
};

}  // namespace cascada::inline CASCADA_ABI::hip
