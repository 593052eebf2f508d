// A step of decoding: one query of a sequence, on one thread. Layers take turns, so that keys and values come from
// memory.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "bench/bytes_read.hpp"
#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cascada.hpp"

using namespace cascada;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

constexpr std::int64_t from_memory = std::int64_t{128} << 20;  // bytes: four times a last-level cache of 32 MiB

/// Rows [rows, cols] as they are stored.
template <row_storage Stored>
std::vector<Stored> stored(const std::vector<float>& rows) {
  std::vector<Stored> all;
  if constexpr (row_scalar<Stored>)
    for (const float x : rows) all.push_back(from_float<Stored>(x));
  else
    for (std::size_t i = 0; i < rows.size(); i += std::size_t{Stored::elements})
      all.push_back(Stored::of(rows.data() + i));
  return all;
}

/// The keys and values of layers, [tokens, kv_heads, dim] each, and queries [tokens, heads, dim]; keys in clusters.
template <row_storage Stored>
struct cache {
  using Scalar = std::conditional_t<row_block<Stored>, float, Stored>;  // of queries and results

  cache(index_t T, index_t query_heads, index_t key_heads, index_t head_dim)
      : tokens(T), heads(query_heads), kv_heads(key_heads), dim(head_dim) {
    const auto layers = static_cast<std::size_t>(std::max(2.0, static_cast<double>(from_memory) / bytes()));
    k.assign(layers, stored<Stored>(rows(kv_heads, 1, T / 5)));
    v.assign(layers, stored<Stored>(rows(kv_heads, 2, T / 5)));
    q = stored<Scalar>(rows(heads, 1, T / 5));
    out.resize(static_cast<std::size_t>(heads) * static_cast<std::size_t>(dim));
  }

  strided_kv<Stored> kv(std::size_t layer) const {
    const index_t cols = dim / detail::rows_of<Stored>::count(1);
    return {packed_heads(k[layer].data(), tokens, kv_heads, cols),
            packed_heads(v[layer].data(), tokens, kv_heads, cols)};
  }
  /// The same memory, whose values lie by dimension: [kv_heads, dim, tokens].
  auto transposed(std::size_t layer) const {
    return transposed_value_kv<Stored>{packed_heads(k[layer].data(), tokens, kv_heads, dim), v[layer].data(), dim,
                                       std::int64_t{dim} * tokens, tokens};
  }
  /// The queries of tokens [begin, end).
  heads_view<const Scalar> queries(index_t begin, index_t end) const {
    return packed_heads(q.data() + std::int64_t{begin} * heads * dim, end - begin, heads, dim);
  }
  heads_view<Scalar> results() { return packed_heads(out.data(), 1, heads, dim); }
  double bytes() const { return 2.0 * tokens * kv_heads * dim / detail::rows_of<Stored>::count(1) * sizeof(Stored); }

  index_t                          tokens, heads, kv_heads, dim;
  std::vector<std::vector<Stored>> k, v;
  std::vector<Scalar>              q, out;

 private:
  std::vector<float> rows(index_t count, unsigned seed, index_t clusters) const {
    const index_t      cols = count * dim;
    std::vector<float> all(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(cols));
    bench::clustered_rows(tokens, cols, clusters, 0, seed, 0, all.data());
    return all;
  }
};

/// Those of this shape: made once, however often a benchmark is begun anew to find out how many steps it takes.
template <row_storage Stored>
cache<Stored>& layers_of(index_t tokens, index_t heads, index_t kv_heads, index_t dim) {
  static std::unique_ptr<cache<Stored>> last;
  if (!last || last->tokens != tokens || last->heads != heads || last->kv_heads != kv_heads || last->dim != dim) {
    last.reset();
    last = std::make_unique<cache<Stored>>(tokens, heads, kv_heads, dim);
  }
  return *last;
}

void report_reads(benchmark::State& state, double bytes) {
  const double all               = bytes * static_cast<double>(state.iterations());
  state.counters["bytes"]        = bench::rate(all, bench::rate::kIsRate, bench::rate::kIs1024);
  state.counters["of_bandwidth"] = bench::rate(all / bench::reading_bandwidth(), bench::rate::kIsRate);
}

/// Steps over all keys; kv_of(layers, layer) are the keys and values of a layer.
template <row_storage Stored, class View>
void step_over_all(benchmark::State& state, const View& kv_of) {
  const auto tokens = static_cast<index_t>(state.range(0)), dim = static_cast<index_t>(state.range(1));
  auto&      layers = layers_of<Stored>(tokens, dim == 64 ? 9 : 32, dim == 64 ? 3 : 8, dim);
  attention<typename cache<Stored>::Scalar, serial> attend({.keys = key_set::all});
  std::size_t                                       layer = 0;
  for (auto _ : state) {
    const status answer = attend(layers.queries(tokens - 1, tokens), kv_of(layers, layer), layers.results());
    if (answer != status::ok) return state.SkipWithError(message(answer));
    layer = (layer + 1) % layers.k.size();
  }
  report_reads(state, layers.bytes());
}

/// All keys. Held back by memory and by arithmetic alike: with keys and values in the cache it takes about as long as
/// reading them from memory does.
template <row_storage Stored>
void decode_dense(benchmark::State& state) {
  step_over_all<Stored>(state, [](const auto& layers, std::size_t layer) { return layers.kv(layer); });
}
BENCHMARK(decode_dense<float>)->ArgsProduct({{1024, 4096, 16384, 65536}, {64, 128}});
BENCHMARK(decode_dense<bfloat16>)->ArgsProduct({{1024, 4096, 16384, 65536}, {64, 128}});
BENCHMARK(decode_dense<float16>)->ArgsProduct({{4096, 16384}, {64, 128}});
BENCHMARK(decode_dense<q8_0_block>)->ArgsProduct({{1024, 4096, 16384}, {64, 128}});

/// The same, with values by dimension. Held back by their transposition in registers, as many instructions as the
/// products.
template <row_scalar Scalar>
void decode_transposed(benchmark::State& state) {
  step_over_all<Scalar>(state, [](const auto& layers, std::size_t layer) { return layers.transposed(layer); });
}
BENCHMARK(decode_transposed<float>)->ArgsProduct({{4096}, {64, 128}});
BENCHMARK(decode_transposed<bfloat16>)->ArgsProduct({{4096}, {64, 128}});
BENCHMARK(decode_transposed<float16>)->ArgsProduct({{4096}, {64, 128}});

/// The preset balanced, leaves of one cluster by keys: the mean of the steps of two chunks up to T, two of which bring
/// the leaves of a chunk up to date. With `summaries` of bfloat16, or as rows are multiplied. `keys`, `bytes`: those
/// read, of dense's; `worst`: the longest step.
template <row_scalar Scalar>
void decode_near_far(benchmark::State& state) {
  using clock                      = std::chrono::steady_clock;
  auto options                     = presets::balanced.attention;
  options.summaries                = static_cast<summary_type>(state.range(1));
  const auto                tokens = static_cast<index_t>(state.range(0)), begin = tokens - 2 * options.chunk;
  auto&                     layers = layers_of<Scalar>(tokens, 9, 3, 64);
  std::vector<index_t>      rep(static_cast<std::size_t>(tokens), 0);
  const index_t             first = 0;
  const representatives     everything{{&first, 1}, rep, {&tokens, 1}};
  attention<Scalar, serial> attend(options);
  std::vector<Scalar>       prompt(layers.q.size());
  const auto extend = [&](attention_state<Scalar, serial>& grown, std::size_t layer, index_t from, index_t to,
                          heads_view<Scalar> out) {
    const status answer = attend.extend(grown, layers.queries(from, to), layers.kv(layer), everything, out);
    if (answer != status::ok) state.SkipWithError(message(answer));
  };
  attention_state<Scalar, serial> begun;
  begun.reserve(tokens);
  extend(begun, 0, 0, begin, packed_heads(prompt.data(), begin, layers.heads, layers.dim));
  std::vector<attention_state<Scalar, serial>> states(layers.k.size(), begun);  // all layers have the same rows
  double                                       keys = 0, bytes = 0, steps = 0, seconds = 0, worst = 0;
  for (auto _ : state) {
    for (index_t step = begin; step < tokens; ++step)
      for (std::size_t layer = 0; layer < states.size(); ++layer, ++steps) {
        const auto before = clock::now();
        extend(states[layer], layer, step, step + 1, layers.results());
        const double took = std::chrono::duration<double>(clock::now() - before).count();
        seconds += took, worst = std::max(worst, took);
        keys += attend.report().share_of_dense();
        bytes += bench::share_of_bytes<Scalar, serial>(attend.report(), options, layers.dim);
      }
    state.SetIterationTime(seconds / steps);
  }
  state.counters["keys"]     = keys / steps;
  state.counters["bytes"]    = bytes / steps;
  state.counters["worst"]    = worst;
  state.counters["layers"]   = static_cast<double>(states.size());
  state.counters["of_cache"] = static_cast<double>(states[0].bytes()) / layers.bytes();
}
BENCHMARK(decode_near_far<float>)
    ->Args({1024, 0})
    ->ArgsProduct({{4096, 16384}, {0, 1}})
    ->Args({65536, 1})
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK(decode_near_far<bfloat16>)->ArgsProduct({{4096, 16384, 65536}, {0}})->Iterations(1)->UseManualTime();
BENCHMARK(decode_near_far<float16>)->ArgsProduct({{4096, 16384}, {0, 1}})->Iterations(1)->UseManualTime();

/// A prompt in pieces of 512 tokens, by the preset balanced; pieces of 0: at once. With `summaries` of the last
/// argument.
template <row_scalar Scalar>
void prefill(benchmark::State& state) {
  const auto            tokens = static_cast<index_t>(state.range(0));
  const auto            piece  = state.range(1) == 0 ? tokens : static_cast<index_t>(state.range(1));
  auto&                 layers = layers_of<Scalar>(tokens, 9, 3, 64);
  std::vector<index_t>  rep(static_cast<std::size_t>(tokens), 0);
  const index_t         first = 0;
  const representatives everything{{&first, 1}, rep, {&tokens, 1}};
  auto                  options = presets::balanced.attention;
  options.summaries             = static_cast<summary_type>(state.range(2));
  attention<Scalar, serial>       attend(options);
  attention_state<Scalar, serial> grown;
  std::vector<Scalar>             out(layers.q.size());
  grown.reserve(tokens);
  for (auto _ : state) {
    grown.clear();
    for (index_t begin = 0; begin < tokens; begin += piece) {
      const index_t end = std::min(tokens, begin + piece);
      auto to = packed_heads(out.data() + std::int64_t{begin} * layers.heads * layers.dim, end - begin, layers.heads,
                             layers.dim);
      const status answer = attend.extend(grown, layers.queries(begin, end), layers.kv(0), everything, to);
      if (answer != status::ok) return state.SkipWithError(message(answer));
    }
  }
}
BENCHMARK(prefill<float>)->ArgsProduct({{1024, 8192}, {0, 512}, {0}})->Args({8192, 0, 2});
BENCHMARK(prefill<bfloat16>)->ArgsProduct({{1024, 8192}, {0, 512}, {0}})->Args({8192, 0, 2});

}  // namespace
