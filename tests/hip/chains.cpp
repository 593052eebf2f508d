// Leaves by keys on the simulated gfx942: chains, and the leaves they are cut into, are the reference's token for
// token.

#include <cstddef>
#include <map>
#include <random>
#include <utility>

#include "cascada/hip/attention/leaves_by_keys.hpp"
#include "cascada/reference/far_field.hpp"
#include "hip/attention_data.hpp"
#include "library/near_threshold.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

using reference::assignment_of_tokens;

selection one_cluster(index_t T) { return selection(std::vector<index_t>(static_cast<std::size_t>(T), 0)); }

/// What the launches leave in a call's workspace, which held all ones, or zeros.
template <class Scalar>
class formed_chains {
 public:
  formed_chains(const problem<Scalar>& p, const selection& chosen, const attention_options& options, unsigned seed,
                bool failed = false)
      : tokens_(p.size.tokens),
        sinks_(options.sink_tokens),
        workspace_(options, {tokens_, p.size.heads, p.size.kv_heads, p.size.key_dim}, simulator::seeded(seed)) {
    const simulator::stream where = simulator::seeded(seed);
    if (seed % 2 == 0) workspace_.clear();
    device_heads<Scalar> k(p.k.view());
    device_selection     kept(chosen);
    if (failed) kept.count = -1;
    hip::launches launch(where);
    launch(hip::attention::cluster_offsets{kept.layer(), arrays().clusters});
    launch(hip::attention::cluster_members{kept.layer(), arrays().clusters, tokens_});
    hip::attention::leaves_by_keys<Scalar>{.layer     = kept.layer(),
                                           .clusters  = arrays().clusters,
                                           .chains    = arrays().chains,
                                           .leaves    = arrays().leaves,
                                           .keys      = k.view(),
                                           .threshold = options.leaf_threshold,
                                           .sinks     = options.sink_tokens,
                                           .size      = options.leaf}(launch);
    launch(hip::attention::list_leaves{kept.layer(), arrays().leaves, tokens_});
    REQUIRE(launch.answer() == status::ok);
    workspace_.read();
  }

  /// Whether any chain or leaf is there.
  bool written() const {
    bool any = false;
    for (index_t t = 0; t < tokens_; ++t)
      any |= arrays().chains.nearest[t].place != -1 || arrays().chains.members[t] != -1 ||
             arrays().leaves.formed[t].end != -1;
    return any;
  }

  index_t count(index_t head) const { return arrays().leaves.count[head]; }

  /// The chain of every token from the sinks on, named by its first token, as reference::chains.
  assignment_of_tokens chains_of(index_t head) const {
    assignment_of_tokens all(static_cast<std::size_t>(tokens_), -1);
    const index_t* const members = arrays().clusters.members;
    for (index_t place = 0; place < tokens_; ++place) {
      const index_t token = members[place], anchor = arrays().chains.nearest[head * tokens_ + place].place;
      REQUIRE(anchor >= 0);
      REQUIRE(anchor <= place);
      if (token >= sinks_) all[static_cast<std::size_t>(token)] = members[anchor];
    }
    return all;
  }

  /// Members of the leaves, by first token.
  std::vector<std::vector<index_t>> leaves_of(index_t head) const {
    std::vector<std::vector<index_t>> all;
    const index_t* const              members = arrays().chains.members + head * tokens_;
    for (index_t j = 0; j < count(head); ++j) {
      const hip::attention::leaf_range range = arrays().leaves.ranges[head * tokens_ + j];
      REQUIRE(range.begin >= 0);
      REQUIRE(range.end <= tokens_);
      all.emplace_back(members + range.begin, members + range.end);
    }
    return all;
  }

 private:
  const auto& arrays() const { return workspace_.arrays; }

  index_t                                      tokens_, sinks_;
  workspace_of_call<Scalar, simulator::stream> workspace_;
};

attention_options by_keys(float threshold, index_t sinks = 0, index_t leaf = 16) {
  return {.sink_tokens = sinks, .leaf_threshold = threshold, .leaf = leaf, .open = opening::none};
}

/// Chains and leaves of all KV heads are the reference's. Returns how many chains there are of each length.
template <class Scalar>
std::map<index_t, index_t> check_chains(const problem<Scalar>& p, const selection& chosen,
                                        const attention_options& options, unsigned seed = 1) {
  const formed_chains<Scalar> ours(p, chosen, options, seed);
  const auto                  in    = p.template input<float>();
  const index_t               sinks = options.sink_tokens, leaf = options.leaf;
  std::map<index_t, index_t>  lengths;
  for (index_t g = 0; g < p.size.kv_heads; ++g) {
    CAPTURE(g);
    const auto chain = reference::chains(sinks, in, g, chosen.rep, options);
    REQUIRE(ours.chains_of(g) == chain);
    std::vector<std::vector<index_t>> expected;
    std::map<index_t, std::size_t>    growing;  // of each chain
    std::map<index_t, index_t>        members;
    for (index_t t = sinks; t < p.size.tokens; ++t) {
      const index_t own = chain[static_cast<std::size_t>(t)];
      if (members[own]++ % leaf == 0) growing[own] = expected.size(), expected.emplace_back();
      expected[growing[own]].push_back(t);
    }
    CHECK(ours.leaves_of(g) == expected);
    for (const auto& [first, size] : members) ++lengths[size];
  }
  return lengths;
}

}  // namespace

TEMPLATE_TEST_CASE("hip chains: keys join as the reference says", "[hip]", ROW_TYPES) {
  const auto    size  = GENERATE(shape{1, 1, 1, 64, 64}, shape{130, 6, 3, 64, 64}, shape{97, 2, 2, 128, 128},
                                 shape{70, 2, 1, 256, 256}, shape{300, 1, 1, 8, 8});
  const double  share = GENERATE(0.0, 0.05, 1.0);  // one cluster, several, all by themselves
  const index_t sinks = GENERATE(0, 1, 9);
  CAPTURE(size, share, sinks);
  problem<TestType> p(size, 7);
  gather_keys(p);
  const selection chosen = share == 0 ? one_cluster(size.tokens) : random_selection(size.tokens, share, 8);
  const auto      lengths =
      check_chains(p, chosen, by_keys(size.key_dim == 8 ? 0.8f : 0.75f, sinks, 3), static_cast<unsigned>(sinks));
  if (size.tokens > 1 && share < 1) CHECK(lengths.size() > 2);
}

TEST_CASE("hip chains: more keys than a batch, in one cluster and in several", "[hip]") {
  constexpr index_t batch = hip::attention::chain_batch;
  const index_t     T     = GENERATE(+batch, batch + 1, 2 * batch + 200);
  const float       tau   = GENERATE(0.6f, 0.9f, 1.0f);  // few chains, more than a batch, each key a chain
  const auto        which = GENERATE(0, 1, 2);
  CAPTURE(T, tau, which);
  // All in one; two long ones with many of one token between their tokens; short ones, then a long one.
  const auto rep_of = [&](index_t t) {
    if (which == 0) return 0;
    if (which == 1) return t < 3 || t % 7 == 0 ? t : t % 7 < 3 ? 1 : 2;
    return t < batch + 44 ? t / 4 * 4 : batch + 40;
  };
  std::vector<index_t> rep;
  for (index_t t = 0; t < T; ++t) rep.push_back(rep_of(t));
  check_chains(problem<bfloat16>({T, 2, 2, 8, 8}, 3), selection(rep), by_keys(tau, 1, 4), static_cast<unsigned>(T));
}

TEST_CASE("hip chains: of equal cosines the older chain's counts", "[hip]") {
  constexpr index_t T = hip::attention::chain_batch + 200;
  std::mt19937      random(9);
  problem<bfloat16> p({T, 1, 1, 8, 8}, 1);
  index_t           dim = GENERATE(2, 3, 5);
  p.k.fill([&] { return 0.0f; });
  for (index_t t = 0; t < T; ++t)  // small integers: exact sums, many ties
    for (index_t c = 0; c < dim; ++c)
      p.k.view().row(t, 0)[c] = from_float<bfloat16>(static_cast<float>(static_cast<int>(random() % 7) - 3));
  const float tau = GENERATE(0.5f, 0.97f);
  check_chains(p, random_selection(T, 0.01, 10), by_keys(tau));
  check_chains(p, one_cluster(T), by_keys(tau));
}

TEMPLATE_TEST_CASE("hip chains: keys at the threshold, and equal ones", "[hip]", ROW_TYPES) {
  // Rounded to 16 bits, cosines around the threshold lie on either side of it; small integers meet it exactly.
  const index_t d   = GENERATE(8, 64);
  const float   tau = GENERATE(0.3f, 0.8f, 0.95f);
  CAPTURE(d, tau);
  const auto        tokens = near_threshold(150, d, tau, 5);
  problem<TestType> p({150, 1, 1, d, d}, 1);
  for (index_t t = 0; t < 150; ++t)
    for (index_t k = 0; k < d; ++k) p.k.view().row(t, 0)[k] = from_float<TestType>(tokens.rows.get(t, k));
  check_chains(p, random_selection(150, 0.02, 6), by_keys(tau));
  check_chains(p, one_cluster(150), by_keys(tau));

  // In order, products of 1 are lost to 2^24; in any other they would be worth six floats around this cosine.
  problem<TestType> exact({2, 1, 1, 8, 8}, 1);
  for (index_t t = 0; t < 2; ++t)
    for (index_t k = 0; k < 8; ++k)
      exact.k.view().row(t, 0)[k] = from_float<TestType>(k == 0  ? 4096.0f
                                                         : k < 7 ? (t == 0 ? 64.0f : 1 / 64.0f)
                                                                 : static_cast<float>(t) * 2048.0f);
  index_t chains[2] = {};
  for (int ulps = -12; ulps <= 12; ++ulps)
    for (const auto& [size, count] : check_chains(exact, one_cluster(2), by_keys(nudge(0.89377284f, ulps))))
      ++chains[count - 1];
  CHECK(chains[0] > 3);  // alike
  CHECK(chains[1] > 3);

  const selection chosen = random_selection(150, 0.3, 12);
  for (index_t t = 0; t < 150; ++t)
    std::copy_n(p.k.view().row(chosen.rep[static_cast<std::size_t>(t)], 0), d, p.k.view().row(t, 0));
  CHECK(formed_chains<TestType>(p, chosen, by_keys(1.0f), 3).chains_of(0) == chosen.rep);
}

TEMPLATE_TEST_CASE("hip chains: keys that are zero, or not finite, or too large to square, are alone", "[hip]",
                   ROW_TYPES) {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const float odd = GENERATE_COPY(0.0f, -0.0f, 0x1p-31f, nan, inf, -inf, 0x1p64f, -0x1.8p90f);
  const float tau = GENERATE(0x1p-149f, 0.5f, 1.0f);
  CAPTURE(odd, tau);
  problem<TestType> p({9, 1, 1, 8, 8}, 1);
  const float       rows[9][2] = {{odd, 0}, {1, 0}, {odd, 0}, {2, 0}, {0, odd}, {0, 1}, {odd, odd}, {0, 2}, {3, 0}};
  p.k.fill([] { return 0.0f; });
  for (index_t t = 0; t < 9; ++t)
    for (index_t k = 0; k < 2; ++k) p.k.view().row(t, 0)[k] = from_float<TestType>(rows[t][k]);
  check_chains(p, one_cluster(9), by_keys(tau, 0, 2));
  CHECK(formed_chains<TestType>(p, one_cluster(9), by_keys(tau, 0, 2), 4).chains_of(0) ==
        assignment_of_tokens{0, 1, 2, 1, 4, 5, 6, 5, 1});
}

TEST_CASE("hip chains: keys at the ends of the range of floats", "[hip]") {
  const float                     tau = GENERATE(0x1p-20f, 0.5f, 0.9f);
  std::mt19937                    random(13);
  std::normal_distribution<float> normal;
  constexpr float                 scales[] = {0.0f, 0x1p-130f, 0x1p-31f, 0x1p-28f, 1.0f, 0x1p40f, 0x1.4p63f, 0x1p65f};
  problem<bfloat16>               p({150, 1, 1, 64, 64}, 1);
  for (index_t t = 0; t < 150; ++t) {
    const float scale = scales[random() % 8] / 8;
    for (index_t k = 0; k < 64; ++k) {
      const float size = random() % 4 == 0 ? 0x1p-128f : 1.0f;
      p.k.view().row(t, 0)[k] =
          from_float<bfloat16>(scale * size * (1 + 0.7f * std::clamp(normal(random), -2.0f, 2.0f)));
    }
  }
  check_chains(p, random_selection(150, 0.02, 14), by_keys(tau));
}

TEST_CASE("hip chains: later tokens change nothing before them", "[hip]") {
  const index_t     cut = GENERATE(40, 600);
  problem<bfloat16> p({1100, 1, 1, 8, 8}, 5);
  const selection   chosen = random_selection(1100, 0.004, 5);
  const auto        before = formed_chains<bfloat16>(p, chosen, by_keys(0.8f, 1), 2).chains_of(0);
  p.randomise(77, cut);
  const auto after = formed_chains<bfloat16>(p, chosen, by_keys(0.8f, 1), 3).chains_of(0);
  CHECK(std::equal(before.begin(), before.begin() + cut, after.begin()));
  CHECK(before != after);
}

TEST_CASE("hip chains: after a selection that failed nothing is written", "[hip]") {
  constexpr index_t             T = hip::attention::chain_batch + 50;
  const problem<bfloat16>       p({T, 1, 1, 8, 8}, 5);
  const formed_chains<bfloat16> none(p, one_cluster(T), by_keys(0.8f, 1), 3, true);
  CHECK(none.count(0) == 0);
  CHECK_FALSE(none.written());
}
