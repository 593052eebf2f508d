// The Gram micro-kernel: a tile of rows against one packed panel, and the products that surround it.

#include <algorithm>
#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cpu/gram/norms.hpp"
#include "cascada/cpu/gram/panels.hpp"
#include "cascada/cpu/gram/products.hpp"
#include "cascada/cpu/gram/verdict.hpp"

using namespace cascada;

namespace {

using backend = default_backend;

std::vector<float> rows_of(index_t tokens, index_t cols) {
  std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
  bench::random_rows(tokens, cols, 1, rows.data());
  return rows;
}

/// Rows against one panel, the panel's block of k in L1. Held back by the loads that each step of k issues beside its
/// FMAs, one broadcast per row and one load per vector, and by sums that are put down between two blocks.
void gram_rows(benchmark::State& state) {
  constexpr index_t height = 8 * kernel::gram::gram_tuning<backend>.rows, width = kernel::gram::panel_width<backend>;
  const auto        cols = static_cast<index_t>(state.range(0));
  const auto        x    = rows_of(height, cols + 16);
  const float*      rows[height];
  kernel::buffer<float, backend> panel, products;
  panel.reserve(std::int64_t{width} * cols);
  std::fill_n(panel.data(), std::int64_t{width} * cols, 0.5f);
  products.reserve(height * width);
  for (index_t i = 0; i < height; ++i) rows[i] = x.data() + std::int64_t{i} * (cols + 16);
  for (auto _ : state) {
    kernel::gram::multiply_rows<backend, float>(height, kernel::gram::gram_tuning<backend>.strips, rows, panel.data(),
                                                cols, products.data());
    benchmark::ClobberMemory();
  }
  bench::report_flops(state, 2.0 * height * width * cols);
}
BENCHMARK(gram_rows)->Arg(64)->Arg(576)->Arg(768)->Arg(1024)->Arg(4096);

/// Norms of all tokens, once per layer. Reads each row once; held back by the transpositions that bring one step of as
/// many rows as a vector has lanes into a register, and by the latency of the one chain that remains.
void norms(benchmark::State& state) {
  const index_t      tokens = 4096, cols = 576;
  const auto         x = rows_of(tokens, cols);
  std::vector<float> norms(tokens), scaled(tokens);
  for (auto _ : state) {
    const bool finite = kernel::gram::compute_norms<backend>(matrix_view<const float>{x.data(), tokens, cols, cols},
                                                             0.8f, 0, tokens, norms.data(), scaled.data());
    benchmark::DoNotOptimize(finite);
  }
  bench::report_bytes(state, 4.0 * tokens * cols);
}
BENCHMARK(norms);

/// Packing representatives into panels, k-major. A transposition: held back by its shuffles and strided stores.
void pack(benchmark::State& state) {
  const index_t                      tokens = 1024, cols = 576;
  const auto                         x = rows_of(tokens, cols);
  std::vector<const float*>          rows(tokens);
  std::vector<float>                 norms(tokens, 1.0f);
  kernel::gram::packed_rows<backend> packed;
  for (index_t i = 0; i < tokens; ++i) rows[static_cast<std::size_t>(i)] = x.data() + std::int64_t{i} * cols;
  packed.reserve(tokens, cols);
  for (auto _ : state) {
    packed.clear(cols);
    packed.append(rows.data(), norms.data(), norms.data(), tokens);
    benchmark::ClobberMemory();
  }
  bench::report_bytes(state, 8.0 * tokens * cols);
}
BENCHMARK(pack);

/// One pair that an estimate left open, in the order that is fastest for one pair. Held back by two loads for each
/// multiply-add.
void open_pair(benchmark::State& state) {
  const auto cols = static_cast<index_t>(state.range(0));
  const auto x    = rows_of(2, cols);
  for (auto _ : state) {
    float product = kernel::gram::any_order_product<backend>(x.data(), x.data() + cols, cols);
    benchmark::DoNotOptimize(product);
  }
  bench::report_flops(state, 2.0 * cols);
}
BENCHMARK(open_pair)->Arg(576)->Arg(4096);

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
/// Pairs of bfloat16 by matrix instructions, 32 rows by 32 columns, beside the peak of vectors of floats. Held back by
/// the tiles that come from L2: four loads for four products.
void matrix_tile(benchmark::State& state) {
  if (!kernel::tiles_permitted<backend>()) return state.SkipWithError("matrix tiles are not permitted here");
  const auto                     depth = kernel::gram::pairs_of<backend>(static_cast<index_t>(state.range(0)));
  kernel::buffer<float, backend> rows, panel;
  [[maybe_unused]] kernel::tile_scope<backend> on;
  for (auto* operand : {&rows, &panel}) {
    operand->reserve(32 * std::int64_t{depth});
    std::fill_n(operand->data(), 32 * std::int64_t{depth}, 0.0f);
  }
  float products[32][32];
  for (auto _ : state) {
    kernel::multiply_tiles<backend, 2, 2, false>(rows.data(), depth, panel.data(), 16, depth / 16, products[0], 32,
                                                 std::int64_t{depth} * 16);
    benchmark::DoNotOptimize(products);
  }
  bench::report_flops(state, 4.0 * 32 * 32 * depth);
}
BENCHMARK(matrix_tile)->Arg(576)->Arg(1024)->Arg(4096);
#endif

}  // namespace
