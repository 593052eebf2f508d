// Attention in its modes, on one thread. FLOP are those of the pairs a query attends to: 4 d each, no tile's padding.

#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/attention.hpp"
#include "cascada/select.hpp"

using namespace cascada;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

/// A layer: q, k, v [T, heads, dim], and its clusters, T / 5 of them.
template <row_scalar Scalar>
struct layer {
  layer(index_t T, index_t query_heads, index_t key_heads, index_t head_dim)
      : tokens(T), heads(query_heads), kv_heads(key_heads), dim(head_dim) {
    q = random(heads, 1), k = random(kv_heads, 2), v = random(kv_heads, 3);
    out.resize(q.size());
  }

  template <class Attention>
  status attend(Attention& attention, std::span<const representatives> selections) {
    const auto rows = [&](const std::vector<Scalar>& x, index_t count) {
      return packed_heads(x.data(), tokens, count, dim);
    };
    return attention(rows(q, heads), strided_kv<Scalar>{rows(k, kv_heads), rows(v, kv_heads)}, selections,
                     packed_heads(out.data(), tokens, heads, dim));
  }

  index_t             tokens, heads, kv_heads, dim;
  std::vector<Scalar> q, k, v, out;

 private:
  std::vector<Scalar> random(index_t count, unsigned seed) const {
    std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(count * dim));
    bench::random_rows(tokens, count * dim, seed, rows.data());
    std::vector<Scalar> stored;
    for (const float x : rows) stored.push_back(from_float<Scalar>(x));
    return stored;
  }
};

template <row_scalar Scalar>
void run(benchmark::State& state, layer<Scalar>& inputs, const attention_options& options,
         std::span<const representatives> selections, double pairs) {
  attention<Scalar, serial> attend(options);
  for (auto _ : state) {
    const status answer = inputs.attend(attend, selections);
    if (answer != status::ok) return state.SkipWithError(message(answer));
  }
  const double peak = std::same_as<Scalar, bfloat16> && bench::bf16_peak() > 0 ? bench::bf16_peak() : bench::fma_peak();
  bench::report_flops(state, 4.0 * pairs * inputs.heads * inputs.dim, peak);
}

double causal_pairs(index_t tokens) { return 0.5 * tokens * (tokens + 1.0); }

/// Every earlier token. Held back by the exponentials, one per pair beside 4 d FLOP, so the more the smaller d is; and
/// at short T by the tiles on the diagonal, half of whose pairs are masked. Matrix tiles are held back by power as
/// well: the peak loop multiplies zeros, and with other operands takes about 1.2 times as long.
template <row_scalar Scalar>
void dense(benchmark::State& state) {
  const auto    tokens = static_cast<index_t>(state.range(0)), dim = static_cast<index_t>(state.range(1));
  layer<Scalar> inputs(tokens, 256 / dim, 256 / dim, dim);
  run(state, inputs, {.keys = key_set::all}, {}, causal_pairs(tokens));
}
BENCHMARK(dense<float>)->ArgsProduct({{1024, 4096}, {64, 128, 256}});
BENCHMARK(dense<bfloat16>)->ArgsProduct({{1024, 4096}, {64, 128, 256}});

/// SmolLM2's shape with tokens in clusters. The far field is dense attention to r summaries; refinement adds the
/// ranking of clusters and scattered reads of single keys and values, which keep it from the dense kernel's rate.
/// FLOP are not counted: what a query attends to depends on the clusters.
template <row_scalar Scalar>
void near_far(benchmark::State& state) {
  const auto         tokens = static_cast<index_t>(state.range(0)), cols = index_t{576};
  std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
  bench::clustered_rows(tokens, cols, tokens / 5, 0, 1, 0, rows.data());
  selector<float, serial> select;
  if (select({rows.data(), tokens, cols, cols}) != status::ok) return state.SkipWithError("selection failed");
  const representatives kept = select.kept();
  layer<Scalar>         inputs(tokens, 9, 3, 64);
  attention<Scalar, serial> attend({.budget = static_cast<index_t>(state.range(1))});
  for (auto _ : state) {
    const status answer = inputs.attend(attend, {&kept, 1});
    if (answer != status::ok) return state.SkipWithError(message(answer));
  }
  state.counters["r"] = kept.count();
  state.SetItemsProcessed(state.iterations() * tokens);
}
BENCHMARK(near_far<float>)->ArgsProduct({{4096}, {0, 128}});
BENCHMARK(near_far<bfloat16>)->ArgsProduct({{4096}, {0, 128}});

/// The paper's r x r problem, bidirectional: no diagonal, no padding, so nothing but the exponentials holds it back.
void representatives_only(benchmark::State& state) {
  const auto           tokens = static_cast<index_t>(state.range(0));
  std::vector<index_t> all, ones(static_cast<std::size_t>(tokens), 1);
  for (index_t i = 0; i < tokens; ++i) all.push_back(i);
  const representatives kept{all, all, ones};
  layer<float>          inputs(tokens, 12, 12, 64);
  run(state, inputs, {.keys = key_set::representatives, .queries = query_set::representatives, .causal = false},
      {&kept, 1}, 1.0 * tokens * tokens);
}
BENCHMARK(representatives_only)->Arg(512)->Arg(1024);

}  // namespace
