#pragma once
// Sets and reports that the host waits for.

#include <cstddef>

#include "cascada/hip/base/backend.hpp"
#include "cascada/hip/select/counters.hpp"
#include "cascada/hip/select/memory.hpp"
#include "cascada/owned_representatives.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// Waits for the stream and copies the set of `tokens` tokens that `layer` has.
template <gfx942_stream B>
[[nodiscard]] status download_set(const B& where, const layer_memory& layer, index_t count, index_t tokens,
                                  owned_representatives& to) {
  const auto r = static_cast<std::size_t>(count), T = static_cast<std::size_t>(tokens);
  to.indices.resize(r), to.counts.resize(r), to.rep.resize(T);
  status answer = where.download(to.indices.data(), layer.indices, r * sizeof(index_t));
  if (answer == status::ok) answer = where.download(to.counts.data(), layer.counts, r * sizeof(index_t));
  return answer == status::ok ? where.download(to.rep.data(), layer.rep, T * sizeof(index_t)) : answer;
}

/// Waits for the stream and copies the report of the last step or extension, of `tokens` tokens, and its answer; where
/// it failed, the report stays as it was.
template <gfx942_stream B>
[[nodiscard]] status download_report(const B& where, const selection_counters* from, index_t tokens, bool cross_gram,
                                     selection_report& to, status& of_step) {
  selection_counters counters;
  const status       answer = where.download(&counters, from, sizeof(counters));
  if (answer != status::ok) return answer;
  of_step = counters.answer;
  if (of_step == status::ok) to = counters.report(tokens, cross_gram);
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
