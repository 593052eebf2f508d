// Clusters from representatives, and their summaries: what attention needs beside the set itself.

#include <random>
#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cpu/cluster.hpp"

using namespace cascada;

namespace {

using backend = default_backend;

/// A legal state: each token its own representative with probability 1 / 5, else with a random earlier one.
std::vector<index_t> random_rep(index_t tokens) {
  std::mt19937         random(1);
  std::vector<index_t> rep, members;
  for (index_t i = 0; i < tokens; ++i) {
    if (i == 0 || random() % 5 == 0) members.push_back(i);
    rep.push_back(members.back() == i ? i : members[random() % members.size()]);
  }
  return rep;
}

representatives with_indices(const std::vector<index_t>& rep, std::vector<index_t>& indices) {
  for (index_t i = 0; i < static_cast<index_t>(rep.size()); ++i)
    if (rep[static_cast<std::size_t>(i)] == i) indices.push_back(i);
  return {.indices = indices, .rep = rep, .counts = {}};
}

/// Members of each cluster: three walks over the tokens, held back by their scattered reads.
void list_clusters(benchmark::State& state) {
  const auto           tokens = static_cast<index_t>(state.range(0));
  const auto           rep    = random_rep(tokens);
  std::vector<index_t> indices, slots(rep.size()), offsets(rep.size() + 1), members(rep.size());
  const auto           kept = with_indices(rep, indices);
  for (auto _ : state)
    benchmark::DoNotOptimize(cascada::list_clusters(kept, slots.data(), offsets.data(), members.data()));
  state.SetItemsProcessed(state.iterations() * tokens);
}
BENCHMARK(list_clusters)->Arg(1024)->Arg(32768);

/// Means of one KV head's clusters over chunks of 128 tokens. Reads every key and value once; held back by the means,
/// which are taken anew for each cluster that a chunk reaches, and stored in strides of a key panel.
void summaries(benchmark::State& state) {
  const auto                         tokens = static_cast<index_t>(state.range(0)), dim = index_t{64};
  const auto                         rep    = random_rep(tokens);
  std::vector<index_t>               indices;
  const auto                         kept = with_indices(rep, indices);
  kernel::cluster_lists<backend>     lists;
  kernel::cluster_summaries<backend> sums;
  lists.reserve(tokens);
  sums.reserve(kept.count(), dim, dim);
  const auto         clusters = lists.list(kept);
  std::vector<float> k(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(dim)), v = k;
  bench::random_rows(tokens, dim, 1, k.data());
  bench::random_rows(tokens, dim, 2, v.data());
  const auto row = [&](const std::vector<float>& rows) {
    return [&](index_t t) { return strided_row<float>{rows.data() + std::int64_t{t} * dim}; };
  };
  for (auto _ : state) {
    sums.clear(dim, dim);
    for (index_t end = 128; end <= tokens; end += 128) sums.extend(clusters.slots.data(), end, row(k), row(v));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * tokens);
  bench::report_bytes(state, 8.0 * tokens * dim);
}
BENCHMARK(summaries)->Arg(1024)->Arg(32768);

}  // namespace
