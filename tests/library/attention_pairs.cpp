// bfloat16 rows by every kind of product that the target has: what holds bit for bit, whatever the tiles share.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <vector>

#include "attention_data.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, later tokens change nothing before them, whatever they are",
                        "[attention]", product_backends) {
  const mode m = GENERATE(filter([](const mode& some) { return some.options.causal; }, from_range(sample(modes))));
  CAPTURE(m);
  const shape                  size       = {130, 6, 2, 20, 33};
  const std::vector<selection> selections = {random_selection(130, 0.3, 2)};
  const auto                   run        = [&](const problem<bfloat16>& p) {
    return attend<bfloat16>(m.options, p, p.kv(), selections, {}, TestType());
  };
  const auto result = run(problem<bfloat16>(size, 22));
  for (const index_t t : {1, 31, 32, 33, 64, 100, 129}) {
    CAPTURE(t);
    problem<bfloat16> poisoned(size, 22), changed(size, 22), infinite(size, 22), large(size, 22);
    poisoned.poison(t);
    changed.randomise(99, t);
    infinite.v.fill([] { return -infinity; }, t);
    large.k.fill([] { return 1e3f; }, t), large.v.fill([] { return 1e20f; }, t);
    CHECK(same_bits(result, run(poisoned), 0, row_of(size, t)));
    CHECK(same_bits(result, run(infinite), 0, row_of(size, t)));
    CHECK(same_bits(result, run(large), 0, row_of(size, t)));
    const auto other = run(changed);
    CHECK(same_bits(result, other, 0, row_of(size, t)));
    CHECK_FALSE(same_bits(result, other));
  }
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, without far tokens near + far is dense, for any number of threads",
                        "[attention]", product_backends) {
  const index_t           T = kernel::attention::block_keys<TestType, kernel::operand_of<bfloat16, TestType>> + 131;
  const problem<bfloat16> p({T, 6, 2, 33, 24}, 34);
  const std::vector<selection> s   = {random_selection(T, 0.3, 4)};
  const auto                   run = [&](const attention_options& options) {
    return attend<bfloat16>(options, p, p.kv(), s, {}, TestType());
  };
  const auto expected = run(dense_options);
  CHECK(same_bits(expected, run({.keys = key_set::near, .window = T, .chunk = 50})));
  CHECK(same_bits(expected, run({.window = T, .chunk = 96})));
  CHECK(same_bits(expected, run({.window = 16, .chunk = 32, .open = opening::all})));
  CHECK_FALSE(same_bits(expected, run({.window = 16, .chunk = 32})));
  thread_pool<TestType::instructions> pool(3);
  for (const mode& m : sample(modes))
    CHECK(same_bits(run(m.options), attend<bfloat16>(m.options, p, p.kv(), s, {}, TestType{{&pool}})));
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, NaN and infinity reach the rows that see them, and no others",
                        "[attention]", product_backends) {
  const shape             size = {100, 4, 2, 8, 8};
  const problem<bfloat16> clean(size, 30);
  const auto              run = [&](const problem<bfloat16>& p) {
    return attend<float>(dense_options, p, p.kv(), {}, {}, TestType());
  };
  const auto        expected = run(clean);
  problem<bfloat16> key = clean, value = clean, infinite = clean;
  key.k.view().row(40, 0)[3]      = from_float<bfloat16>(not_a_number);
  value.v.view().row(40, 0)[3]    = from_float<bfloat16>(not_a_number);
  infinite.v.view().row(40, 0)[3] = from_float<bfloat16>(infinity);
  const auto        of_key = run(key), of_value = run(value), of_infinite = run(infinite);
  problem<bfloat16> zero = key;
  zero.q.fill([] { return 0.0f; });
  const auto of_zero = run(zero);
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h)
      for (std::size_t c = 0; c < 8; ++c) {
        CAPTURE(t, h, c);
        const std::size_t i    = row_of(size, t, h) + c;
        const bool        sees = t >= 40 && h < 2;
        REQUIRE(std::isnan(of_zero[i]) == sees);
        const auto same = [&](const std::vector<float>& result) { return same_bits(result, expected, i, i + 1); };
        REQUIRE((sees ? std::isnan(of_key[i]) : same(of_key)));
        REQUIRE((sees && c == 3 ? std::isnan(of_value[i]) : same(of_value)));
        REQUIRE((sees && c == 3 ? std::isinf(of_infinite[i]) : same(of_infinite)));
      }
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, a row's large logits are no other row's business", "[attention]",
                        product_backends) {
  const shape             size = {kernel::attention::block_keys<TestType, bfloat16> + 70, 2, 1, 32, 16};
  const problem<bfloat16> small(size, 37);
  problem<bfloat16>       mixed = small;
  const auto run      = [&](const auto& p) { return attend<float>(dense_options, p, p.kv(), {}, {}, TestType()); };
  const auto expected = run(small);
  for (index_t t = 3; t < size.tokens; t += 29)
    for (index_t c = 0; c < size.key_dim; ++c) mixed.q.view().row(t, 1)[c] = from_float<bfloat16>(50);
  const auto result = run(mixed);
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h) {
      CAPTURE(t, h);
      REQUIRE(same_bits(result, expected, row_of(size, t, h), row_of(size, t, h) + 16) != (t % 29 == 3 && h == 1));
    }
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, equal logits of every size give means", "[attention]", product_backends) {
  // Weights relative to a maximum, or not: with the lengths of queries or keys underrated, or a higher bound on small
  // logits, the sums below leave the range of floats.
  const float   logit = GENERATE(-250.0f, -122.0f, -61.0f, -3.0f, 30.0f, 59.0f, 61.0f, 110.0f, 122.0f, 126.0f, 200.0f,
                                 250.0f);  // in base 2
  const float   large = GENERATE(1.0f, 0x1p38f);
  const index_t T     = 420;
  CAPTURE(logit, large);
  problem<bfloat16> p({T, 1, 1, 32, 3}, 39);
  for (index_t t = 0; t < T; ++t) {
    for (index_t c = 0; c < 32; ++c) p.q.view().row(t, 0)[c] = p.k.view().row(t, 0)[c] = bfloat16{};
    p.q.view().row(t, 0)[3] = from_float<bfloat16>(1);
    p.k.view().row(t, 0)[3] = from_float<bfloat16>(logit);
    for (index_t c = 0; c < 3; ++c)
      p.v.view().row(t, 0)[c] = from_float<bfloat16>(large * static_cast<float>(1 + t % 4));
  }
  const attention_options options = {.keys = key_set::all, .scale = std::numbers::ln2_v<float>};
  const auto              result  = attend<float>(options, p, p.kv(), {}, {}, TestType());
  REQUIRE(result.size() == static_cast<std::size_t>(3 * T));
  double sum = 0;
  for (index_t t = 0; t < T; ++t) {
    sum += double{large} * (1 + t % 4);
    for (std::size_t c = 0; c < 3; ++c)
      REQUIRE(std::fabs(double{result[row_of(p.size, t) + c]} * (t + 1) / sum - 1) < 1e-5);
  }
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, one large value among equal keys, at any place", "[attention]",
                        product_backends) {
  const index_t place = GENERATE(0, 1, 32, 33, 34, 63, 68);
  const index_t T     = 70;
  CAPTURE(place);
  problem<bfloat16> p({T, 1, 1, 2, 20}, 40);
  p.q.fill([] { return 1.0f; });
  p.k.fill([] { return 25.0f; });  // weights of 2^50, if not relative to their maximum
  p.v.fill([] { return 0.0f; });
  p.v.view().row(place, 0)[17]    = from_float<bfloat16>(0x1p90f);
  const attention_options options = {.keys = key_set::all, .scale = std::numbers::ln2_v<float>};
  const auto              result  = attend<float>(options, p, p.kv(), {}, {}, TestType());
  REQUIRE(result.size() == static_cast<std::size_t>(20 * T));
  for (index_t t = 0; t < T; ++t) {
    CAPTURE(t);
    const double expected = t < place ? 0.0 : 0x1p90 / (t + 1);
    REQUIRE(std::fabs(result[row_of(p.size, t) + 17] - expected) <= 1e-5 * expected);
    REQUIRE(result[row_of(p.size, t) + 16] == 0);
  }
}

TEMPLATE_TEST_CASE("attention: vectors of results are rounded as single ones are", "[attention]", bfloat16, float16) {
  using V = kernel::vec<test_backend>;
  std::mt19937 random(41);
  for (int trial = 0; trial < 3000; ++trial) {
    float    from[V::width];
    TestType to[V::width];
    for (float& x : from) {
      const auto exponent =
          random() % 4 == 0 ? random() % 256 : 112 + random() % 32;           // all, or where float16 has digits
      const auto digits = random() % 3 == 0 ? random() % 8 << 13 : random();  // ties and ends, or any
      x = std::bit_cast<float>(static_cast<std::uint32_t>(random() % 2 << 31 | exponent << 23 | (digits & 0x7f'ffff)));
    }
    kernel::attention::store_elements(V::load(from), to);
    for (index_t lane = 0; lane < V::width; ++lane) {
      CAPTURE(from[lane]);
      REQUIRE(to[lane].bits == from_float<TestType>(from[lane]).bits);
    }
  }
}

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)

TEST_CASE("attention: weights of small logits are 2^logit, rounded to bfloat16 or little worse", "[attention]") {
  using B = test_backend;
  const kernel::attention::small_powers<B> powers(0.5f);
  double                                   ours = 0, rounded = 0, worst = 0;
  int                                      count = 0;
  for (float from = -120; from < 120; from += 0.61f) {
    float                 scores[32], sums[16] = {}, total = 0;
    std::vector<bfloat16> weights(64, from_float<bfloat16>(1));
    for (int i = 0; i < 32; ++i) scores[i] = from + static_cast<float>(i) * 0.019f;
    kernel::attention::absorb_small(powers, scores, reinterpret_cast<float*>(weights.data()), 31, 64, sums);
    for (const float sum : sums) total += sum;
    double expected = 0;
    for (std::size_t i = 0; i < 31; ++i) {
      const double exact = std::exp2(0.5 * static_cast<double>(scores[i]));
      const double error = to_float(weights[i]) / exact - 1;
      const double best  = to_float(from_float<bfloat16>(static_cast<float>(exact))) / exact - 1;
      ours += error * error, rounded += best * best, worst = larger(worst, std::fabs(error)), ++count;
      expected += to_float(weights[i]);
    }
    CHECK(std::fabs(total / expected - 1) < 1e-6);
    for (std::size_t i = 31; i < 64; ++i) CHECK(to_float(weights[i]) == 0);
  }
  CAPTURE(count, worst);
  CHECK(std::sqrt(ours / rounded) < 1.25);
  CHECK(worst < 0.0065);  // of rounding alone: 0.0039
}

#endif
