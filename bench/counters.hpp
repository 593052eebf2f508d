#pragma once
// Counters beside the times: what was done, and how near that is to what the core can do.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "bench/peak.hpp"

namespace bench {

/// The best rate of `work()`, which returns what it did, over a few calls. CPU time, as the benchmarks have it.
template <class Work>
double best_rate(Work&& work) {
  double best = 0;
  for (int call = 0; call < 5; ++call) {
    const std::clock_t begin = std::clock();
    const double       done  = work();
    best                     = std::max(best, done * CLOCKS_PER_SEC / static_cast<double>(std::clock() - begin));
  }
  return best;
}

inline double fma_peak() {
  static const double peak = best_rate([] { return fma_loop(5'000'000); });
  return peak;
}
inline double bf16_peak() {
  static const double peak = best_rate([] { return bf16_loop(5'000'000); });
  return peak;
}
inline double stream_bandwidth() {
  static const double bandwidth = [] {
    triad arrays;
    return best_rate(arrays);
  }();
  return bandwidth;
}

inline double reading_bandwidth() {
  static const double bandwidth = [] {
    reading array;
    return best_rate(array);
  }();
  return bandwidth;
}

using rate = benchmark::Counter;

/// FLOP per second, and the share of `peak`, of one thread (the library prints every rate, shares too, with "/s"). A
/// core's peak drifts with its clock: compare shares, not rates, between runs.
inline void report_flops(benchmark::State& state, double flops_per_call, double peak = fma_peak()) {
  const double flops      = flops_per_call * static_cast<double>(state.iterations());
  state.counters["FLOPS"] = rate(flops, rate::kIsRate);
  if (peak > 0) state.counters["of_peak"] = rate(flops / peak, rate::kIsRate);
}

/// Bytes per second, and the share of what a stream through memory reaches.
inline void report_bytes(benchmark::State& state, double bytes_per_call) {
  const double bytes             = bytes_per_call * static_cast<double>(state.iterations());
  state.counters["bytes"]        = rate(bytes, rate::kIsRate, rate::kIs1024);
  state.counters["of_bandwidth"] = rate(bytes / stream_bandwidth(), rate::kIsRate);
}

/// Gram operations of the scalar algorithm and inner products really computed, each 2 d FLOP.
inline void report_pairs(benchmark::State& state, std::int64_t gram_operations, std::int64_t pairs, index_t cols) {
  state.counters["gram_ops"] = static_cast<double>(gram_operations);
  state.counters["pairs"]    = static_cast<double>(pairs);
  report_flops(state, 2.0 * static_cast<double>(pairs) * cols);
}

}  // namespace bench
