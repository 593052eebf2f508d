// Attention in its modes, on one thread. FLOP are those of the pairs a query attends to: 4 d each, no tile's padding.

#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cpu/attention/attention.hpp"

using namespace cascada;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

/// A layer: q, k, v [T, heads, dim], keys at random or in clusters.
template <row_scalar Scalar>
struct layer {
  layer(index_t T, index_t query_heads, index_t key_heads, index_t head_dim, index_t clusters = 0)
      : tokens(T), heads(query_heads), kv_heads(key_heads), dim(head_dim) {
    q = random(heads, 1), k = random(kv_heads, 2, clusters), v = random(kv_heads, 3);
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
  std::vector<Scalar> random(index_t count, unsigned seed, index_t clusters = 0) const {
    const index_t      cols = count * dim;
    std::vector<float> rows(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
    if (clusters > 0)
      bench::clustered_rows(tokens, cols, clusters, 0, seed, 0, rows.data());
    else
      bench::random_rows(tokens, cols, seed, rows.data());
    std::vector<Scalar> stored;
    for (const float x : rows) stored.push_back(from_float<Scalar>(x));
    return stored;
  }
};

/// FLOP: 4 d for each of `keys` (row, KV head) keys, per query head; by default those that the report counts.
template <row_scalar Scalar>
void run(benchmark::State& state, layer<Scalar>& inputs, attention<Scalar, serial>& attend,
         std::span<const representatives> selections, double keys = 0) {
  for (auto _ : state) {
    const status answer = inputs.attend(attend, selections);
    if (answer != status::ok) return state.SkipWithError(message(answer));
  }
  const auto& report = attend.report();
  if (keys == 0) keys = static_cast<double>(report.near_keys + report.leaves + report.computed);
  const double peak = std::same_as<Scalar, bfloat16> && bench::bf16_peak() > 0 ? bench::bf16_peak() : bench::fma_peak();
  bench::report_flops(state, 4.0 * keys * (inputs.heads / inputs.kv_heads) * inputs.dim, peak);
}

/// Every earlier token. Held back by the exponentials, one per pair beside 4 d FLOP, so the more the smaller d is; and
/// at short T by the tiles on the diagonal, half of whose pairs are masked. Matrix tiles are held back by power as
/// well: the peak loop multiplies zeros, and with other operands takes about 1.2 times as long.
template <row_scalar Scalar>
void dense(benchmark::State& state) {
  const auto                tokens = static_cast<index_t>(state.range(0)), dim = static_cast<index_t>(state.range(1));
  layer<Scalar>             inputs(tokens, 256 / dim, 256 / dim, dim);
  attention<Scalar, serial> attend({.keys = key_set::all});
  run(state, inputs, attend, {});
}
BENCHMARK(dense<float>)->ArgsProduct({{1024, 4096}, {64, 128, 256}});
BENCHMARK(dense<bfloat16>)->ArgsProduct({{1024, 4096}, {64, 128, 256}});

/// SmolLM2's shape with keys in clusters: chains of like keys, in leaves. Closed, the far field is dense attention to
/// the leaves, with their corrections; opening adds the leaves that hold much of a row's softmax, token by token. FLOP
/// are those of the keys that rows read; assignment of keys and leaves' sums, held back by chains of dependent sums and
/// by scattered reads, take part of the time and count for nothing.
template <row_scalar Scalar>
void near_far(benchmark::State& state) {
  const auto                tokens = static_cast<index_t>(state.range(0));
  const auto                open   = static_cast<opening>(state.range(1));
  layer<Scalar>             inputs(tokens, 9, 3, 64, tokens / 5);
  std::vector<index_t>      rep(static_cast<std::size_t>(tokens), 0);
  const index_t             first = 0;
  const representatives     everything{{&first, 1}, rep, {&tokens, 1}};
  attention<Scalar, serial> attend({.open = open});
  run(state, inputs, attend, {&everything, 1});
  state.counters["keys"] = attend.report().share_of_dense();
}
const std::vector<std::int64_t> openings = {static_cast<int>(opening::none), static_cast<int>(opening::by_mass)};
BENCHMARK(near_far<float>)->ArgsProduct({{1024, 4096}, openings});
BENCHMARK(near_far<bfloat16>)->ArgsProduct({{1024, 4096}, openings});

/// The paper's r x r problem, bidirectional: no diagonal, no padding, so nothing but the exponentials holds it back.
void representatives_only(benchmark::State& state) {
  const auto           tokens = static_cast<index_t>(state.range(0));
  std::vector<index_t> all, ones(static_cast<std::size_t>(tokens), 1);
  for (index_t i = 0; i < tokens; ++i) all.push_back(i);
  const representatives    kept{all, all, ones};
  layer<float>             inputs(tokens, 12, 12, 64);
  attention<float, serial> attend(
      {.keys = key_set::representatives, .queries = query_set::representatives, .causal = false});
  run(state, inputs, attend, {&kept, 1}, 12.0 * tokens * tokens);
}
BENCHMARK(representatives_only)->Arg(512)->Arg(1024);

}  // namespace
