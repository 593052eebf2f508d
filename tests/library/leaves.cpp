// Chains by keys and the leaves they are cut into, against the reference: the same tokens, and the same bits of means.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "cascada/cpu/attention/leaf_chains.hpp"
#include "cascada/cpu/attention/leaves.hpp"
#include "catch.hpp"
#include "near_threshold.hpp"
#include "not_finite.hpp"

using namespace cascada;
using namespace tests;

namespace {

using reference::assignment_of_tokens;

/// What a lane of a summary holds: floats, and pairs of bfloat16 where the target multiplies them.
using operands =
    std::conditional_t<kernel::multiplies_pairs<test_backend>, std::tuple<float, kernel::bf16_pair>, std::tuple<float>>;

/// The chain of every token from `sinks` on, named by its first token, as reference::chains; `piece` tokens at a time,
/// each from nothing but the leaders of the chains so far.
template <row_scalar Scalar>
assignment_of_tokens chains_of(const problem<Scalar>& p, const selection& s, float threshold, index_t sinks = 0,
                               index_t piece = std::numeric_limits<index_t>::max()) {
  const index_t                                T   = p.size.tokens;
  const auto                                   key = [&](index_t t) { return p.kv().key(t, 0); };
  kernel::attention::leaf_chains<test_backend> chains;
  chains.reserve(T, p.size.key_dim);
  kernel::attention::chain_leaders<test_backend> leaders;
  leaders.tokens.reserve(T);
  assignment_of_tokens all(static_cast<std::size_t>(T), -1), first = all;
  for (index_t begin = sinks, end = 0; begin < T; begin = end) {
    end = T - begin < piece ? T : begin + piece;
    chains.clear(p.size.key_dim, threshold, begin);
    chains.add_clusters(T);
    chains.resume(leaders, s.rep.data(), key);
    chains.extend(s.rep.data(), end, key);
    chains.put_leaders(leaders);
  }
  for (index_t t = sinks; t < T; ++t) {
    const index_t name = chains.chain_of()[t];
    REQUIRE(name >= 0);
    REQUIRE(name < T);
    index_t& begun = first[static_cast<std::size_t>(name)];
    if (begun < 0) begun = t;
    all[static_cast<std::size_t>(t)] = begun;
  }
  return all;
}

template <row_scalar Scalar>
assignment_of_tokens expected_chains(const problem<Scalar>& p, const selection& s, float threshold, index_t sinks = 0) {
  return reference::chains(sinks, p.template input<double>(), 0, s.rep, {.leaf_threshold = threshold});
}

selection one_cluster(index_t T) { return selection(std::vector<index_t>(static_cast<std::size_t>(T), 0)); }

/// A problem of keys alone.
problem<float> problem_of_keys(const std::vector<std::vector<float>>& keys) {
  const auto     T = static_cast<index_t>(keys.size()), d = static_cast<index_t>(keys.front().size());
  problem<float> p({T, 1, 1, d, 1}, 1);
  for (index_t t = 0; t < T; ++t) std::copy_n(keys[static_cast<std::size_t>(t)].begin(), d, p.k.view().row(t, 0));
  return p;
}

/// Leaves of the first tokens, which grow.
template <class E, row_scalar Scalar>
struct growing_leaves {
  const problem<Scalar>&                             p;
  const assignment_of_tokens&                        chain;
  kernel::attention::leaf_summaries<test_backend, E> summaries;
  kernel::attention::leaf_scratch<test_backend>      scratch;

  growing_leaves(const problem<Scalar>& of, const assignment_of_tokens& chains,
                 const kernel::attention::leaf_shape& shape)
      : p(of), chain(chains) {
    summaries.reserve(p.size.tokens, shape);
    scratch.reserve(p.size.tokens, shape);
    summaries.clear(shape, p.size.tokens);
  }

  void extend(index_t end) {
    const auto kv = p.kv();
    summaries.extend(
        chain.data(), end, [&](index_t t) { return kv.key(t, 0); }, [&](index_t t) { return kv.value(t, 0); }, scratch);
  }

  /// Means in a lane, and one of them, in units of `scale` where they are bytes.
  index_t elements() const {
    if (summaries.shape().kept == summary_type::bytes) return 4;
    return summaries.shape().kept == summary_type::bfloat16 ? 2 : kernel::elements_per_lane<E>;
  }
  float element(const float* lanes, index_t i, const float* scale) const {
    if (elements() == 1) return lanes[i];
    if (elements() == 2) return kernel::element_of<kernel::bf16_pair>(lanes, i);
    const int kept = reinterpret_cast<const signed char*>(lanes)[i];
    return static_cast<float>(std::same_as<E, float> ? kept : kept - 64) * *scale;
  }

  std::vector<float> key(index_t leaf) const {
    const index_t      column = leaf % kernel::attention::panel_keys<test_backend>;
    const auto         block  = summaries.block(leaf - column);
    std::vector<float> all;
    for (index_t k = 0; k < p.size.key_dim; ++k) {
      const index_t lane = k / elements() * kernel::attention::panel_keys<test_backend> + column;
      all.push_back(element(block.keys, elements() * lane + k % elements(), summaries.key_scales() + leaf));
    }
    return all;
  }

  std::vector<float> value(index_t leaf) const {
    const index_t column   = leaf % kernel::attention::panel_keys<test_backend>,
                  stride   = kernel::attention::whole_vectors<test_backend>(p.size.value_dim);
    const float*       row = summaries.block(leaf - column).values + column / elements() * stride;
    std::vector<float> all;
    for (index_t c = 0; c < p.size.value_dim; ++c)
      all.push_back(element(row, elements() * c + column % elements(), summaries.value_scales() + leaf));
    return all;
  }

  float variance(index_t leaf, index_t group) const {
    constexpr index_t width = kernel::vec<test_backend>::width;
    float             lanes[width];
    summaries.variances(group, leaf / width * width).store(lanes);
    return lanes[leaf % width];
  }

  float bias(index_t leaf) const { return summaries.log_counts()[leaf]; }
  float several(index_t leaf) const { return kernel::element_of<E>(summaries.many(), leaf); }

  std::vector<index_t> members(index_t leaf) const {
    std::vector<index_t> all(static_cast<std::size_t>(summaries.size(leaf)));
    CHECK(summaries.list(&leaf, 1, all.data()) == summaries.size(leaf));
    return all;
  }

  /// All of it as numbers.
  std::vector<float> read() const {
    std::vector<float> all = {static_cast<float>(summaries.count())};
    for (index_t j = 0; j < summaries.count(); ++j) {
      for (const index_t t : members(j)) all.push_back(static_cast<float>(t));
      for (const auto& row : {key(j), value(j)}) all.insert(all.end(), row.begin(), row.end());
      for (index_t g = 0; g < summaries.shape().moments; ++g) all.push_back(variance(j, g));
      all.push_back(bias(j));
      all.push_back(several(j));
    }
    return all;
  }
};

/// How far the variance of a leaf's keys may be off: by roundings of sums of squares of distances to the first key, and
/// of the mean, whose distance from the first key is squared.
double variance_slack(const reference::group_of_tokens<double>& leaf, const reference::attention_input<double>& in,
                      index_t groups, index_t g) {
  const index_t begin = g * in.key_dim / groups, end = (g + 1) * in.key_dim / groups;
  double        sum = 0;
  for (const index_t t : leaf.members)
    for (index_t k = begin; k < end; ++k) {
      const double key = in.key(t, 0)[k], first = in.key(leaf.members.front(), 0)[k], distance = std::fabs(key - first);
      sum += distance * (distance + std::fabs(key) + std::fabs(first));
    }
  return std::numeric_limits<float>::epsilon() * (4.0 + leaf.count()) * sum / leaf.count() / (end - begin);
}

template <class E, row_scalar Scalar>
void check_leaves(const growing_leaves<E, Scalar>& ours, index_t end, const attention_options& options) {
  const auto in    = ours.p.template input<double>();
  const auto exact = reference::leaves_before(end, options.sink_tokens, in, 0, ours.chain, options);
  const auto plain =
      reference::leaves_before(end, options.sink_tokens, input_rounded_to<E>(ours.p), 0, ours.chain, options);
  const auto& leaves = ours.summaries;
  REQUIRE(leaves.count() == static_cast<index_t>(exact.size()));
  for (index_t j = 0; j < leaves.count(); ++j) {
    CAPTURE(j);
    const auto& leaf = exact[static_cast<std::size_t>(j)];
    const auto& same = plain[static_cast<std::size_t>(j)];
    REQUIRE(ours.members(j) == leaf.members);
    CHECK(ours.several(j) == (leaf.members.size() > 1 ? 1.0f : 0.0f));
    CHECK(std::fabs(ours.bias(j) - std::log2(leaf.count())) <= 1e-6 * std::log2(leaf.count()));
    // Sums in token order and one division: the plain loops' bits.
    CHECK(same_bits(ours.key(j), same.key));
    CHECK(same_bits(ours.value(j), same.value));
    for (index_t g = 0; g < leaves.shape().moments; ++g) {
      const auto variance = leaf.variance[static_cast<std::size_t>(g)];
      CHECK(ours.variance(j, g) >= 0);
      CHECK(std::fabs(ours.variance(j, g) - variance) <= variance_slack(leaf, in, leaves.shape().moments, g));
      if (leaf.members.size() == 1) CHECK(ours.variance(j, g) == 0);
    }
  }
}

kernel::attention::leaf_shape shape_of(const shape& s, const attention_options& options) {
  return {.key_dim   = s.key_dim,
          .value_dim = s.value_dim,
          .size      = options.leaf,
          .moments   = options.moments.value_or(0),
          .sinks     = options.sink_tokens,
          .kept      = options.summaries};
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("leaves: members, means and variances of just the tokens so far", "[attention]", operands) {
  using rows                      = std::conditional_t<std::same_as<TestType, float>, float, bfloat16>;
  const auto [key_dim, value_dim] = GENERATE(std::pair{1, 1}, std::pair{3, 20}, std::pair{16, 5}, std::pair{64, 65});
  const attention_options options =
      GENERATE(attention_options{.sink_tokens = 0, .leaf = 16, .moments = 1},
               attention_options{.sink_tokens = 1, .leaf = 1, .moments = std::nullopt},
               attention_options{.sink_tokens = 5, .leaf = 3, .moments = 3},
               attention_options{.leaf = 5, .moments = 1, .summaries = summary_type::bfloat16},
               attention_options{.leaf = 5, .moments = 1, .summaries = summary_type::bytes},
               attention_options{.sink_tokens = 1, .leaf = std::numeric_limits<index_t>::max(), .moments = 8});
  if (options.moments.value_or(0) > key_dim) return;  // attention takes as many groups as there are dimensions
  const shape         size = {300, 1, 1, key_dim, value_dim};
  const problem<rows> p(size, 2);
  const auto          chain = expected_chains(p, random_selection(300, 0.1, 3), 0.3f, options.sink_tokens);
  CAPTURE(size, options.sink_tokens, options.leaf);
  growing_leaves<TestType, rows> leaves(p, chain, shape_of(size, options));
  for (const index_t end : {5, 6, 64, 65, 200, 300}) {
    CAPTURE(end);
    leaves.extend(end);
    check_leaves(leaves, end, options);
  }
}

TEMPLATE_LIST_TEST_CASE("leaves: how the prefix grew does not matter, nor what was there before", "[attention]",
                        operands) {
  const shape             size = {300, 1, 1, 16, 24};
  const problem<bfloat16> p(size, 4);
  const auto              chain = expected_chains(p, random_selection(300, 0.05, 5), 0.2f, 1);
  const auto kept = GENERATE(values({summary_type::as_multiplied, summary_type::bfloat16, summary_type::bytes}));
  const attention_options options = {.leaf = 6, .moments = 4, .summaries = kept};
  std::vector<float>      expected;
  for (const index_t step : {300, 1, 7, 64}) {
    CAPTURE(step);
    growing_leaves<TestType, bfloat16> leaves(p, chain, shape_of(size, options));
    for (index_t end = step; end < 300; end += step) leaves.extend(end);
    leaves.extend(300);
    if (expected.empty()) expected = leaves.read();
    CHECK(same_bits(leaves.read(), expected));
    leaves.summaries.clear(shape_of(size, options), size.tokens);
    CHECK(leaves.summaries.count() == 0);
    leaves.extend(300);
    CHECK(same_bits(leaves.read(), expected));
  }
}

TEST_CASE("leaves: beyond the last leaf, whole blocks are zero", "[attention]") {
  const shape          size = {140, 1, 1, 5, 3};
  const problem<float> p(size, 5);
  const auto kept = GENERATE(values({summary_type::as_multiplied, summary_type::bfloat16, summary_type::bytes}));
  const attention_options      options = {.sink_tokens = 0, .leaf = 2, .moments = 2, .summaries = kept};
  const auto                   chain   = one_cluster(140).rep;
  growing_leaves<float, float> leaves(p, chain, shape_of(size, options));
  leaves.extend(140);  // fills the memory
  leaves.summaries.clear(shape_of(size, options), 140);
  leaves.extend(5);
  const auto block = leaves.summaries.block(0);
  CHECK(block.count == 3);
  for (index_t j = 3; j < kernel::attention::panel_keys<test_backend>; ++j) {
    CHECK(leaves.summaries.size(j) == 0);
    CHECK(leaves.several(j) == 0);
    CHECK(leaves.bias(j) == 0);
    for (const float x : leaves.key(j)) CHECK(x == 0);
    for (index_t g = 0; g < 2; ++g) CHECK(leaves.variance(j, g) == 0);
  }
}

TEST_CASE("leaves: far from the origin, variances keep their digits", "[attention]") {
  const shape    size = {64, 1, 1, 32, 1};
  problem<float> p(size, 6);
  for (index_t t = 0; t < 64; ++t)
    for (index_t k = 0; k < 32; ++k) p.k.view().row(t, 0)[k] = 1000 + 0.01f * p.k.view().row(t, 0)[k];
  const attention_options      options = {.sink_tokens = 0, .leaf = 16, .moments = 4};
  const auto                   chain   = expected_chains(p, one_cluster(64), 0.5f);
  growing_leaves<float, float> leaves(p, chain, shape_of(size, options));
  leaves.extend(64);
  const auto exact = reference::leaves_before(64, 0, p.input<double>(), 0, chain, options);
  REQUIRE(leaves.summaries.count() == 4);
  for (index_t j = 0; j < 4; ++j)
    for (index_t g = 0; g < 4; ++g) {
      const double variance = exact[static_cast<std::size_t>(j)].variance[static_cast<std::size_t>(g)];
      CHECK(variance > 5e-5);
      // A rounding of the mean, 1000, is worth 6e-5 of it; the squares of keys would be off by 0.1.
      CHECK(std::fabs(leaves.variance(j, g) - variance) < 3e-6);
    }
}

TEST_CASE("leaves: of keys that differ in their last digit, variances are not negative", "[attention]") {
  // The mean is rounded by as much as the keys differ: its square may exceed the mean of the squares.
  std::mt19937                    random(18);
  std::vector<std::vector<float>> keys(512, std::vector<float>(32));
  for (auto& key : keys)
    for (float& x : key) x = nudge(1000, static_cast<int>(random() % 2));
  const problem<float>         p       = problem_of_keys(keys);
  const attention_options      options = {.sink_tokens = 0, .leaf = 16, .moments = 32};
  const auto                   chain   = one_cluster(512).rep;
  growing_leaves<float, float> leaves(p, chain, shape_of(p.size, options));
  leaves.extend(512);
  int none = 0;
  for (index_t j = 0; j < 32; ++j)
    for (index_t g = 0; g < 32; ++g) {
      REQUIRE(leaves.variance(j, g) >= 0);
      none += leaves.variance(j, g) == 0;
    }
  CHECK(none > 10);
}

TEST_CASE("leaves: means of huge keys are rounded to what is finite", "[attention]") {
  const float    most     = std::numeric_limits<float>::max();
  problem<float> p        = problem_of_keys({{most, -most, 1}, {most, -most, 2}, {most, -most, 4}});
  p.v.view().row(0, 0)[0] = most, p.v.view().row(1, 0)[0] = most, p.v.view().row(2, 0)[0] = most;
  const attention_options      options = {.sink_tokens = 0, .moments = 1, .summaries = summary_type::bfloat16};
  const auto                   chain   = one_cluster(3).rep;
  growing_leaves<float, float> leaves(p, chain, shape_of(p.size, options));
  const float                  finite = to_float(bfloat16{0x7f7f});
  for (const index_t end : {1, 3}) {
    CAPTURE(end);
    leaves.extend(end);
    CHECK(leaves.key(0) == std::vector<float>{finite, -finite, end == 1 ? 1.0f : 2.328125f});
    CHECK(leaves.value(0) == std::vector<float>{finite});
  }
}

TEST_CASE("leaves: means as bytes, at the ends of the range of floats", "[attention]") {
  const float             most    = std::numeric_limits<float>::max();
  const attention_options options = {.sink_tokens = 0, .moments = 1, .summaries = summary_type::bytes};
  const auto              chain   = one_cluster(1).rep;
  const auto              key_of  = [&](const std::vector<float>& key) {
    const problem<float>         p = problem_of_keys({key});
    growing_leaves<float, float> leaves(p, chain, shape_of(p.size, options));
    leaves.extend(1);
    return leaves.key(0);
  };
  CHECK(key_of({most, -most, 1}) == std::vector<float>{63 * (most / 63), -63 * (most / 63), 0});
  CHECK(key_of({126, -1, 1.5f}) == std::vector<float>{126, 0, 2});  // in units of 2
  CHECK(key_of({0x1p-100f, 0, -0x1p-100f}) == std::vector<float>{63 * (0x1p-100f / 63), 0, -63 * (0x1p-100f / 63)});
  CHECK(key_of({0x1p-101f, 0, 0}) == std::vector<float>{0, 0, 0});
  CHECK(key_of({0, 0, 0}) == std::vector<float>{0, 0, 0});
  for (const float x : key_of({1, not_a_number, infinity})) CHECK(std::isnan(x));
  const auto odd = key_of({1, -infinity, infinity});
  CHECK((std::isnan(odd[0]) && odd[1] == -infinity && odd[2] == infinity));  // 0 x infinity
}

TEST_CASE("leaves: where sums overflow, means and variances are the members'", "[attention]") {
  const shape    size = {40, 1, 1, 20, 21};  // inside vectors and beyond
  problem<float> p(size, 19);
  const auto     grow = [&](float* row, index_t dim) {
    for (index_t c = 0; c < dim; ++c) row[c] = c % 3 == 0 ? 3e38f * (1 + row[c] / 100) : row[c];
  };
  for (index_t t = 0; t < 40; ++t) grow(p.k.view().row(t, 0), 20), grow(p.v.view().row(t, 0), 21);
  for (index_t t = 0; t < 16; ++t) p.k.view().row(t, 0)[10] = t == 0 ? 0.0f : 2e19f;  // only squares overflow
  const attention_options      options = {.sink_tokens = 0, .leaf = 16, .moments = 10};
  const auto                   chain   = one_cluster(40).rep;
  growing_leaves<float, float> leaves(p, chain, shape_of(size, options));
  for (const index_t end : {1, 5, 33, 40}) {
    leaves.extend(end);
    const auto exact = reference::leaves_before(end, 0, p.input<double>(), 0, chain, options);
    REQUIRE(leaves.summaries.count() == static_cast<index_t>(exact.size()));
    const auto close = [](double ours, double theirs) {
      return std::fabs(ours - theirs) <= 1e-5 * (1 + std::fabs(theirs));
    };
    for (index_t j = 0; j < leaves.summaries.count(); ++j) {
      CAPTURE(end, j);
      const auto& leaf = exact[static_cast<std::size_t>(j)];
      const auto  key = leaves.key(j), value = leaves.value(j);
      for (std::size_t k = 0; k < key.size(); ++k) CHECK(close(key[k], leaf.key[k]));
      for (std::size_t c = 0; c < value.size(); ++c) CHECK(close(value[c], leaf.value[c]));
      for (index_t g = 0; g < 10; ++g) {
        const double largest = std::numeric_limits<float>::max();
        CHECK(close(leaves.variance(j, g), std::min(largest, leaf.variance[static_cast<std::size_t>(g)])));
      }
    }
  }
}

TEMPLATE_TEST_CASE("chains: keys of every type join as the reference says", "[attention]", float, bfloat16, float16) {
  const index_t d         = GENERATE(1, 3, 16, 65);
  const float   threshold = GENERATE(0.05f, 0.3f, 0.7f);
  const index_t sinks     = GENERATE(0, 4);
  CAPTURE(d, threshold, sinks);
  std::set<std::size_t> lengths;
  for (const double share : {0.0, 0.02, 0.3}) {
    CAPTURE(share);
    problem<TestType> p({300, 1, 1, d, 1}, 7);
    for (index_t t = 1; t < 300; ++t)  // alike, as random keys of many dimensions are not
      for (index_t k = 0; k < d; ++k) {
        const float other       = to_float(p.k.view().row(t / 5, 0)[k]);
        p.k.view().row(t, 0)[k] = from_float<TestType>(other + 0.7f * to_float(p.k.view().row(t, 0)[k]));
      }
    const selection s     = share == 0.0 ? one_cluster(300) : random_selection(300, share, 8);
    const auto      chain = chains_of(p, s, threshold, sinks);
    CHECK(chain == expected_chains(p, s, threshold, sinks));
    for (const index_t piece : {1, 7, 128, 129}) CHECK(chain == chains_of(p, s, threshold, sinks, piece));
    std::map<index_t, std::size_t> members;
    for (const index_t c : chain) ++members[c];
    for (const auto& [first, count] : members) lengths.insert(count);
  }
  CHECK(lengths.size() > 1);  // some joined
}

TEST_CASE("chains: of equal cosines the older chain's counts", "[attention]") {
  const auto    drawn = GENERATE(std::pair{2, 3}, std::pair{3, 2}, std::pair{5, 1});
  const index_t d     = drawn.first;
  const int     range = drawn.second;
  CAPTURE(d);
  std::mt19937   random(9);
  problem<float> p({300, 1, 1, d, 1}, 1);
  p.k.fill([&] {
    return static_cast<float>(static_cast<int>(random() % 7) % (2 * range + 1) - range);
  });  // small integers: exact sums, many ties
  const selection s     = random_selection(300, 0.02, 10);
  const float     tau   = GENERATE(0.5f, 0.6f);
  const auto      chain = chains_of(p, s, tau);
  CHECK(chain == expected_chains(p, s, tau));
  int ties = 0;
  for (index_t t = 0; t < 300; ++t) {
    const auto rows = matrix_view<const float>{p.k.view().data, 300, d, p.k.view().token_stride};
    const auto mine = chain[static_cast<std::size_t>(t)];
    for (index_t i = mine + 1; i < t && mine != t; ++i) {
      const bool anchor  = chain[static_cast<std::size_t>(i)] == i;
      const bool cluster = s.rep[static_cast<std::size_t>(i)] == s.rep[static_cast<std::size_t>(t)];
      ties += anchor && cluster && reference::covered(rows, tau, t, i) && !reference::nearer(rows, t, mine, i);
    }
  }
  CHECK(ties > 5);
  // By hand: (1, 1) is as near to (3, 4) as to (4, 3), which are farther from each other.
  CHECK(chains_of(problem_of_keys({{3, 4}, {4, 3}, {1, 1}}), one_cluster(3), 0.97f) == assignment_of_tokens{0, 1, 0});
  CHECK(chains_of(problem_of_keys({{4, 3}, {3, 4}, {1, 1}}), one_cluster(3), 0.97f) == assignment_of_tokens{0, 1, 0});
  CHECK(chains_of(problem_of_keys({{4, 3}, {3, 4}, {4, 5}}), one_cluster(3), 0.97f) == assignment_of_tokens{0, 1, 1});
}

TEST_CASE("chains: keys within a few ulps of the threshold, and of each other's cosines", "[attention]") {
  const index_t d   = GENERATE(2, 7, 64, 257);
  const float   tau = GENERATE(0.3f, 0.8f, 0.95f);
  CAPTURE(d, tau);
  index_t covered = 0, uncovered = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    const auto     tokens = near_threshold(150, d, tau, seed);
    problem<float> p({150, 1, 1, d, 1}, 1);
    for (index_t t = 0; t < 150; ++t)
      for (index_t k = 0; k < d; ++k) p.k.view().row(t, 0)[k] = tokens.rows.get(t, k);
    const selection s = random_selection(150, 0.02, seed);
    CHECK(chains_of(p, s, tau) == expected_chains(p, s, tau));
    for (index_t t = 50; t < 150; ++t)
      ++(reference::covered(tokens.rows.view(), tau, t, tokens.home[static_cast<std::size_t>(t)]) ? covered
                                                                                                  : uncovered);
  }
  CHECK(covered > 5);
  CHECK(uncovered > 5);
}

TEST_CASE("chains: a duplicate joins at threshold 1", "[attention]") {
  const index_t d = GENERATE(1, 2, 3, 64, 65);
  CAPTURE(d);
  problem<float>  p({300, 1, 1, d, 1}, 11);
  const selection s = random_selection(300, 0.3, 12);
  for (index_t t = 0; t < 300; ++t)
    std::copy_n(p.k.view().row(s.rep[static_cast<std::size_t>(t)], 0), d, p.k.view().row(t, 0));
  CHECK(chains_of(p, s, 1.0f) == s.rep);
  CHECK(expected_chains(p, s, 1.0f) == s.rep);
}

TEST_CASE("chains: keys that are zero, or not finite, or too large to square, are alone", "[attention]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const float odd = GENERATE_COPY(0.0f, -0.0f, 0x1p-31f, 0x1p-149f, nan, -nan, inf, -inf, 0x1p64f, -0x1.8p90f,
                                  std::numeric_limits<float>::max());
  const float tau = GENERATE(0x1p-149f, 0.5f, 1.0f);
  CAPTURE(odd, tau);
  const auto p = problem_of_keys({{odd, 0}, {1, 0}, {odd, 0}, {2, 0}, {0, odd}, {0, 1}, {odd, odd}, {0, 2}, {3, 0}});
  const auto chain = chains_of(p, one_cluster(9), tau);
  CHECK(chain == assignment_of_tokens{0, 1, 2, 1, 4, 5, 6, 5, 1});
  CHECK(chain == expected_chains(p, one_cluster(9), tau));
  // Not even where the threshold times a norm is as good as zero do keys join that have nothing in common.
  const auto apart = problem_of_keys({{0x1p-20f, 0}, {0, 0x1p-20f}});
  CHECK(chains_of(apart, one_cluster(2), tau) == assignment_of_tokens{0, 1});
}

TEST_CASE("chains: keys at the ends of the range of floats", "[attention]") {
  const index_t d   = GENERATE(3, 33, 128);
  const float   tau = GENERATE(0x1p-20f, 0.5f, 0.9f);
  CAPTURE(d, tau);
  std::mt19937                    random(13);
  std::normal_distribution<float> normal;
  constexpr float                 scales[] = {0.0f, 0x1p-149f, 0x1p-130f, 0x1p-31f,  0x1p-28f,
                                              1.0f, 0x1p40f,   0x1.8p60f, 0x1.4p63f, 0x1p65f};
  for (int trial = 0; trial < 5; ++trial) {
    problem<float> p({150, 1, 1, d, 1}, 1);
    for (index_t t = 0; t < 150; ++t) {
      const float scale = scales[random() % 10] / std::sqrt(static_cast<float>(d));
      for (index_t k = 0; k < d; ++k)
        p.k.view().row(t, 0)[k] =
            scale * (random() % 4 == 0 ? 0x1p-128f : 1.0f) * (1 + 0.7f * std::clamp(normal(random), -2.0f, 2.0f));
    }
    const selection s = random_selection(150, 0.02, 14);
    CHECK(chains_of(p, s, tau) == expected_chains(p, s, tau));
  }
}
