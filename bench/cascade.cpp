// One step of the cascade, from the set of the layer before, on one thread.

#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cpu/select/cascade.hpp"

using namespace cascada;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

/// Clusters that stay while tokens move within them. Held back by the checks of inherited representatives, single
/// pairs at scalar speed (T of them, where a selection has T r / 2 in tiles), and by r^2 / 2 pairs among the former
/// representatives.
void step(benchmark::State& state, validation validate) {
  const auto         tokens = static_cast<index_t>(state.range(0)), cols                            = index_t{576};
  std::vector<float> before(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols)), now = before;
  bench::clustered_rows(tokens, cols, tokens / 4, 256, 1, 0, before.data());
  bench::clustered_rows(tokens, cols, tokens / 4, 256, 1, 1, now.data());

  cascade<float, serial> first, later({.validate = validate});
  if (first.step({before.data(), tokens, cols, cols}) != status::ok) return state.SkipWithError("selection failed");
  for (auto _ : state) {
    status answer = later.inherit(first.kept());  // copies T indices: nothing beside the step
    if (answer == status::ok) answer = later.step({now.data(), tokens, cols, cols});
    if (answer != status::ok) return state.SkipWithError(message(answer));
  }
  state.counters["r"]       = later.kept().count();
  state.counters["jaccard"] = *later.report().jaccard;
  bench::report_pairs(state, later.report().gram.total(), later.report().pairs_evaluated, cols);
}
BENCHMARK_CAPTURE(step, exact, validation::exact)->Arg(1024)->Arg(4096);
BENCHMARK_CAPTURE(step, cross_gram, validation::cross_gram)->Arg(1024)->Arg(4096);

}  // namespace
