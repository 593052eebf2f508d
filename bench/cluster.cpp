// Clusters from representatives, and their leaves: what attention needs beside the set itself.

#include <algorithm>
#include <random>
#include <vector>

#include "bench/counters.hpp"
#include "bench/data.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"

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

/// rows [T, dim], read as attention does.
auto reader(const std::vector<float>& rows, index_t dim) {
  return [data = rows.data(), dim](index_t t) { return strided_row<float>{data + std::int64_t{t} * dim}; };
}

std::vector<float> clustered_keys(index_t tokens, index_t dim) {
  std::vector<float> keys(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(dim));
  bench::clustered_rows(tokens, dim, tokens / 5, 0, 1, 0, keys.data());
  return keys;
}

/// Sums, means and variances of leaves of 16 tokens over chunks of 128. Reads every key and value once; held back by
/// the means, which are taken anew for each leaf that a chunk reaches, and stored in strides of a key panel.
void summaries(benchmark::State& state) {
  const auto           tokens = static_cast<index_t>(state.range(0)), dim = index_t{64}, moments = index_t{4};
  const auto           rep = random_rep(tokens);
  std::vector<index_t> indices, slots(rep.size()), offsets(rep.size() + 1), members(rep.size());
  const auto           kept = with_indices(rep, indices);
  const auto           k = clustered_keys(tokens, dim), v = clustered_keys(tokens, dim);
  const auto           key = reader(k, dim), value = reader(v, dim);
  kernel::attention::leaf_summaries<backend> leaves;
  cascada::list_clusters(kept, slots.data(), offsets.data(), members.data());
  const kernel::attention::leaf_shape shape = {.key_dim = dim, .value_dim = dim, .size = 16, .moments = moments};
  leaves.reserve(tokens, shape);
  kernel::attention::leaf_scratch<backend> scratch;
  scratch.reserve(tokens, shape);
  for (auto _ : state) {
    leaves.clear(shape, tokens);
    for (index_t end = 128; end <= tokens; end += 128) leaves.extend(slots.data(), end, key, value, scratch);
    benchmark::ClobberMemory();
  }
  state.counters["leaves"] = leaves.count();
  state.SetItemsProcessed(state.iterations() * tokens);
  bench::report_bytes(state, 8.0 * dim * (tokens + leaves.count()));
}
BENCHMARK(summaries)->Arg(1024)->Arg(32768);

/// The chain of every token, in one cluster. FLOP are those of its key with each anchor there is so far; held back by
/// the choice of the nearest, and by keys whose anchors are new in their batch.
void assign_leaves(benchmark::State& state) {
  const auto                              tokens = static_cast<index_t>(state.range(0)), dim = index_t{64};
  const auto                              k   = clustered_keys(tokens, dim);
  const auto                              key = reader(k, dim);
  kernel::attention::leaf_chains<backend> chains;
  chains.reserve(tokens, dim);
  const std::vector<index_t> cluster(static_cast<std::size_t>(tokens), 0);
  for (auto _ : state) {
    chains.clear(dim, 0.7f, 0), chains.add_clusters(1);
    chains.extend(cluster.data(), tokens, key);
    benchmark::ClobberMemory();
  }
  double  pairs = 0;
  index_t count = 0;
  for (index_t t = 0; t < tokens; ++t) {
    pairs += count;
    count = std::max(count, chains.chain_of()[t] + 1);
  }
  state.counters["chains"] = count;
  state.SetItemsProcessed(state.iterations() * tokens);
  bench::report_flops(state, 2.0 * pairs * dim);
}
BENCHMARK(assign_leaves)->Arg(1024)->Arg(8192);

}  // namespace
