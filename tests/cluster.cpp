// Clusters: their members, summaries that grow with the prefix, and the cut through their scores.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "attention_data.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention_candidates.hpp"
#include "cascada/cpu/cluster.hpp"
#include "catch.hpp"

using namespace cascada;
using namespace tests;

namespace {

using B = default_backend;

struct lists {
  std::vector<index_t> slots, offsets, members;
  clusters             view;

  explicit lists(const selection& s) : slots(s.rep.size()), offsets(s.indices.size() + 1), members(s.rep.size()) {
    view = list_clusters(s.view(), slots.data(), offsets.data(), members.data());
  }
};

template <row_scalar Scalar>
void extend(kernel::cluster_summaries<B>& summaries, const lists& l, const problem<Scalar>& p, index_t end) {
  const auto kv = p.kv();
  summaries.extend(
      l.slots.data(), end, [&](index_t t) { return kv.key(t, 0); }, [&](index_t t) { return kv.value(t, 0); });
}

/// A summary as plain numbers: count, bias, mean key, mean value.
std::vector<float> read(const kernel::cluster_summaries<B>& summaries, index_t j, const shape& s) {
  const index_t           column = j % kernel::block_keys<B>;
  const kernel::key_block block  = summaries.block(j - column);
  std::vector<float>      all    = {static_cast<float>(summaries.size(j)), block.bias[column]};
  for (index_t k = 0; k < s.key_dim; ++k) all.push_back(block.keys[k * kernel::block_keys<B> + column]);
  for (index_t c = 0; c < s.value_dim; ++c)
    all.push_back(block.values[column * kernel::whole_vectors<B>(s.value_dim) + c]);
  return all;
}

}  // namespace

TEST_CASE("cluster: members in token order, the representative first", "[attention]") {
  const index_t T     = GENERATE(0, 1, 2, 64, 300);
  const double  share = GENERATE(0.0, 0.05, 0.5, 1.0);
  CAPTURE(T, share);
  const selection s = random_selection(T, share, 1);
  const lists     l(s);
  REQUIRE(l.view.count() == static_cast<index_t>(s.indices.size()));
  std::vector<index_t> seen;
  for (index_t j = 0; j < l.view.count(); ++j) {
    CHECK(l.view.representative(j) == s.indices[static_cast<std::size_t>(j)]);
    CHECK(l.view.end(j) - l.view.begin(j) == s.counts[static_cast<std::size_t>(j)]);
    for (index_t i = l.view.begin(j); i < l.view.end(j); ++i) {
      const index_t member = l.members[static_cast<std::size_t>(i)];
      CHECK(s.rep[static_cast<std::size_t>(member)] == l.view.representative(j));
      CHECK(l.slots[static_cast<std::size_t>(member)] == j);
      CHECK((i == l.view.begin(j) || l.members[static_cast<std::size_t>(i) - 1] < member));
      CHECK(l.view.older(j, member) == i - l.view.begin(j));
      CHECK(l.view.older(j, member + 1) == i - l.view.begin(j) + 1);
      seen.push_back(member);
    }
  }
  CHECK(seen.size() == s.rep.size());
}

TEST_CASE("cluster: counts that are wrong in sum's disguise do no harm", "[attention]") {
  selection s({0, 1, 1, 1});
  s.counts = {3, 1};  // adds up to T, but the clusters have 1 and 3 members
  const lists l(s);
  CHECK(l.offsets == std::vector<index_t>{0, 1, 4});
  CHECK(l.members == std::vector<index_t>{0, 1, 2, 3});
}

TEST_CASE("cluster: summaries are means of just the tokens so far", "[attention]") {
  const auto [key_dim, value_dim] = GENERATE(std::pair{1, 1}, std::pair{3, 20}, std::pair{16, 5}, std::pair{64, 65});
  const shape          size       = {300, 1, 1, key_dim, value_dim};
  const problem<float> p(size, 2);
  const selection      s = random_selection(300, 0.4, 3);
  const lists          l(s);
  CAPTURE(size);
  kernel::cluster_summaries<B> summaries;
  summaries.reserve(l.view.count(), key_dim, value_dim);
  summaries.clear(key_dim, value_dim);
  for (const index_t end : {1, 2, 64, 65, 200, 300}) {
    CAPTURE(end);
    extend(summaries, l, p, end);
    const auto expected = reference::clusters_before(end, p.input<double>(), 0, s.rep);
    const auto plain    = reference::clusters_before(end, p.input<float>(), 0, s.rep);
    REQUIRE(summaries.count() == static_cast<index_t>(expected.size()));
    for (index_t j = 0; j < summaries.count(); ++j) {
      const auto  ours = read(summaries, j, size);
      const auto& mean = expected[static_cast<std::size_t>(j)];
      const auto& same = plain[static_cast<std::size_t>(j)];
      CHECK(ours[0] == static_cast<float>(mean.members.size()));
      CHECK(std::fabs(ours[1] - std::log2(static_cast<double>(ours[0]))) <= 1e-6 * std::fabs(ours[1]));
      // Sums in token order and one division: the plain loops' bits.
      CHECK(std::equal(same.key.begin(), same.key.end(), ours.begin() + 2));
      CHECK(std::equal(same.value.begin(), same.value.end(), ours.begin() + 2 + key_dim));
      for (index_t k = 0; k < key_dim; ++k) {
        const auto at = static_cast<std::size_t>(k);
        CHECK(std::fabs(ours[at + 2] - mean.key[at]) <= 1e-4);  // 300 roundings of sums below 100
      }
    }
  }
}

TEST_CASE("cluster: how the prefix grew does not matter", "[attention]") {
  const shape                     size = {300, 1, 1, 16, 24};
  const problem<bfloat16>         p(size, 4);
  const lists                     l(random_selection(300, 0.2, 5));
  std::vector<std::vector<float>> results;
  for (const index_t step : {1, 7, 64, 300}) {
    kernel::cluster_summaries<B> summaries;
    summaries.reserve(l.view.count(), size.key_dim, size.value_dim);
    summaries.clear(size.key_dim, size.value_dim);
    for (index_t end = step; end < 300; end += step) extend(summaries, l, p, end);
    extend(summaries, l, p, 300);
    std::vector<float> all;
    for (index_t j = 0; j < summaries.count(); ++j)
      for (const float x : read(summaries, j, size)) all.push_back(x);
    results.push_back(all);
  }
  for (const auto& result : results) CHECK(same_bits(result, results.front()));
}

TEST_CASE("the cut through scores takes the best, as much as is enough", "[candidates]") {
  std::mt19937                     random(7);
  std::uniform_real_distribution<> unit(0, 1);
  kernel::refinement_scratch<B>    scratch;
  constexpr index_t                width = kernel::vec<B>::width, most = 700;
  kernel::buffer<float, B>         scores;
  kernel::buffer<index_t, B>       sizes;
  scores.reserve(most + width), sizes.reserve(most + width);
  scratch.ranked.reserve(most + width), scratch.ranked_sizes.reserve(most + width);
  for (int round = 0; round < 400; ++round) {
    const index_t count = 1 + static_cast<index_t>(unit(random) * (round % 2 ? 40 : most - 1));
    const double  range = round % 3 == 0 ? 2 : 60;  // octaves
    for (index_t i = 0; i < count + width; ++i) {
      scores[i] = i < count ? static_cast<float>(std::exp2(-range * unit(random))) : 0.0f;
      if (round % 5 == 0) scores[i] = std::floor(scores[i] * 4) / 4;  // many ties, and zeros
      sizes[i] = i < count ? 1 + static_cast<index_t>(unit(random) * unit(random) * 9) : 0;
    }
    const index_t* amounts = round % 4 ? sizes.data() : nullptr;
    const auto     amount  = [&](index_t i) { return amounts ? amounts[i] : 1; };
    index_t        all     = 0;
    for (index_t i = 0; i < count; ++i) all += amount(i);
    const index_t enough   = 1 + static_cast<index_t>(unit(random) * (all - 1));
    const auto [cut, room] = kernel::find_cut<B>(scores.data(), amounts, count, enough, scratch);

    index_t above = 0, on_cut = 0;
    for (index_t i = 0; i < count; ++i) {
      const index_t rank = kernel::rank_of<B>(scores[i]);
      above += rank > cut ? amount(i) : 0;
      on_cut += rank == cut ? amount(i) : 0;
    }
    CAPTURE(round, count, enough, all, cut, room, above, on_cut);
    REQUIRE(above + room == enough);
    REQUIRE(room >= 0);
    REQUIRE(room <= on_cut);
  }
}
