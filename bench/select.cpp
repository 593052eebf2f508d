// Full selection of one layer, on one thread.

#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cpu/select/selector.hpp"

using namespace cascada;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

template <class Scalar>
std::vector<Scalar> stored(const std::vector<float>& rows) {
  std::vector<Scalar> out;
  for (const float x : rows) out.push_back(from_float<Scalar>(x));
  return out;
}

template <row_scalar Scalar, class Select>
void run(benchmark::State& state, const std::vector<float>& rows, index_t cols, Select select) {
  const auto               x      = stored<Scalar>(rows);
  const auto               tokens = static_cast<index_t>(x.size() / static_cast<std::size_t>(cols));
  selector<Scalar, serial> full;
  for (auto _ : state) {
    const status answer = select(full, matrix_view<const Scalar>{x.data(), tokens, cols, cols});
    if (answer != status::ok) return state.SkipWithError(message(answer));
  }
  state.counters["r"] = full.kept().count();
  bench::report_pairs(state, full.report().gram.total(), full.report().pairs_evaluated, cols);
}

std::vector<float> clusters(index_t tokens, index_t cols) {
  std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
  bench::clustered_rows(tokens, cols, tokens / 4, 256, 1, 0, rows.data());
  return rows;
}

/// Tokens in clusters, T / 4 of them. Held back by tiles that early exit leaves partly filled, by packing the new
/// representatives of each block, and by the verdicts, a compare and a branch per row of a tile.
template <row_scalar Scalar>
void select_clusters(benchmark::State& state) {
  const auto tokens = static_cast<index_t>(state.range(0)), cols = static_cast<index_t>(state.range(1));
  run<Scalar>(state, clusters(tokens, cols), cols, [](auto& full, auto x) { return full(x); });
}
BENCHMARK(select_clusters<float>)->ArgsProduct({{1024, 4096}, {576, 768, 4096}});
BENCHMARK(select_clusters<bfloat16>)->ArgsProduct({{1024, 4096}, {576}});

/// The worst case: nothing covers anything, r = T. Tiles are full; the panels of all representatives, T d floats, pass
/// through the caches once per block of tokens.
void select_random(benchmark::State& state) {
  const auto         tokens = static_cast<index_t>(state.range(0)), cols = index_t{576};
  std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
  bench::random_rows(tokens, cols, 1, rows.data());
  run<float>(state, rows, cols, [](auto& full, auto x) { return full(x); });
}
BENCHMARK(select_random)->Arg(1024)->Arg(4096);

/// The paper's baseline, which forms the T x T Gram matrix: full tiles, then T^2 floats written and scanned.
void select_literal(benchmark::State& state) {
  const auto tokens = static_cast<index_t>(state.range(0)), cols = index_t{576};
  run<float>(state, clusters(tokens, cols), cols, [](auto& full, auto x) { return full.literal(x); });
}
BENCHMARK(select_literal)->Arg(1024)->Arg(4096);

}  // namespace
