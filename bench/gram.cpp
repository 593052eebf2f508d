// The Gram micro-kernel: a tile of rows against one packed panel, and the products that surround it.

#include <algorithm>
#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cpu/gram.hpp"
#include "cascada/cpu/panels.hpp"
#include "cascada/cpu/products.hpp"

using namespace cascada;

namespace {

using backend = default_backend;

constexpr index_t pair_lanes = kernel::pair_lanes<backend>;

std::vector<float> rows_of(index_t tokens, index_t cols) {
  std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
  bench::random_rows(tokens, cols, 1, rows.data());
  return rows;
}

/// One tile, its panel in L1 or L2. Held back by nothing but the loads that each step of k issues beside its FMAs: one
/// broadcast per row and one load per vector.
void gram_tile(benchmark::State& state) {
  constexpr index_t height = kernel::gram_tuning<backend>.rows, width = kernel::panel_width<backend>;
  const auto        cols = static_cast<index_t>(state.range(0));
  const auto        x = rows_of(height, cols), panel = rows_of(width, cols);
  const float*      rows[height];
  for (index_t i = 0; i < height; ++i) rows[i] = x.data() + std::int64_t{i} * cols;
  float products[height][width];
  for (auto _ : state) {
    kernel::gram_tile_of<backend>(height, rows, panel.data(), cols,
                                  [&](index_t i, const kernel::tile_row<backend>& row) { row.store(products[i]); });
    benchmark::DoNotOptimize(products);
    benchmark::ClobberMemory();
  }
  bench::report_flops(state, 2.0 * height * width * cols);
}
BENCHMARK(gram_tile)->Arg(64)->Arg(576)->Arg(768)->Arg(1024)->Arg(4096);

/// Single pairs, the canonical chain of each, a pair to a lane. Held back by the transpositions that bring one step of
/// all pairs into a register, and by the latency of the one chain that remains.
void pair_products(benchmark::State& state) {
  const auto   cols = static_cast<index_t>(state.range(0));
  const auto   x    = rows_of(2 * pair_lanes, cols);
  const float *a[pair_lanes], *b[pair_lanes];
  for (index_t lane = 0; lane < pair_lanes; ++lane) {
    a[lane] = x.data() + std::int64_t{lane} * cols;
    b[lane] = a[lane] + std::int64_t{pair_lanes} * cols;
  }
  float products[pair_lanes];
  for (auto _ : state) {
    kernel::pair_products<backend>(a, b, cols, products);
    benchmark::DoNotOptimize(products);
    benchmark::ClobberMemory();
  }
  bench::report_flops(state, 2.0 * pair_lanes * cols);
}
BENCHMARK(pair_products)->Arg(576)->Arg(4096);

/// Norms of all tokens, once per layer. Reads each row once; held back as pair_products, not by memory.
void norms(benchmark::State& state) {
  const index_t      tokens = 4096, cols = 576;
  const auto         x = rows_of(tokens, cols);
  std::vector<float> norms(tokens), scaled(tokens);
  for (auto _ : state) {
    const bool finite = kernel::compute_norms<backend>(matrix_view<const float>{x.data(), tokens, cols, cols}, 0.8f, 0,
                                                       tokens, norms.data(), scaled.data());
    benchmark::DoNotOptimize(finite);
  }
  bench::report_bytes(state, 4.0 * tokens * cols);
}
BENCHMARK(norms);

/// Packing representatives into panels, k-major. A transposition: held back by its shuffles and strided stores.
void pack(benchmark::State& state) {
  const index_t                tokens = 1024, cols = 576;
  const auto                   x = rows_of(tokens, cols);
  std::vector<const float*>    rows(tokens);
  std::vector<float>           norms(tokens, 1.0f);
  kernel::packed_rows<backend> packed;
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
    float product = kernel::any_order_product<backend>(x.data(), x.data() + cols, cols);
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
  const auto                             depth = kernel::pairs_of<backend>(static_cast<index_t>(state.range(0)));
  kernel::buffer<float, backend>         rows, panel;
  [[maybe_unused]] kernel::tile_scope<backend> on;
  for (auto* operand : {&rows, &panel}) {
    operand->reserve(32 * std::int64_t{depth});
    std::fill_n(operand->data(), 32 * std::int64_t{depth}, 0.0f);
  }
  float products[32][32];
  for (auto _ : state) {
    kernel::matrix_tile_of<backend>(32, rows.data(), depth, panel.data(), depth,
                                    [&](index_t i, const kernel::tile_row<backend>& row) { row.store(products[i]); });
    benchmark::DoNotOptimize(products);
  }
  bench::report_flops(state, 4.0 * 32 * 32 * depth);
}
BENCHMARK(matrix_tile)->Arg(576)->Arg(1024)->Arg(4096);
#endif

}  // namespace
