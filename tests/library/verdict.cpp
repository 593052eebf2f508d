// One verdict per pair: pairs placed within a few ulps of the threshold, on every path, decided as the reference does.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "every_path.hpp"
#include "fast_math.hpp"
#include "near_threshold.hpp"
#include "sample.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

TEST_CASE("verdict: pairs within a few ulps of tau", "[verdict][property]") {
  const auto  d   = GENERATE(from_range(sample(std::vector{2, 7, 64, 257, 512, 576})));
  const float tau = GENERATE(0.3f, 0.8f, 0.95f);
  CAPTURE(d, tau);
  index_t covered = 0, uncovered = 0, rechecking = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    const auto      tokens = near_threshold(150, d, tau, seed);
    const auto      x      = tokens.rows.view();
    selector<float> literal({.threshold = tau});
    const auto      expected = reference::select<float>(x, {.threshold = tau});
    REQUIRE(literal.literal(x) == status::ok);
    CHECK(to_vector(literal.kept().rep) == expected.rep);
    for (const prefilter filter : all_filters) {
      CAPTURE(filter);
      selector<float> select({.threshold = tau, .filter = filter});
      REQUIRE(select(x) == status::ok);
      CHECK(to_vector(select.kept().rep) == expected.rep);
      // Estimates as near to tau as these leave the pair to the chain.
      if (select.report().pairs_rechecked > 0) ++rechecking;
    }
    for (const unsigned state : {1u, 2u}) {
      for (const auto validate : {validation::exact, validation::cross_gram}) {
        cascade<float> walk({.threshold = tau, .validate = validate, .filter = all_filters[seed]});
        REQUIRE(walk.inherit(random_state(150, state).view()) == status::ok);
        REQUIRE(walk.step(x) == status::ok);
        CHECK(to_vector(walk.kept().indices) == expected.indices);
      }
    }
    for (index_t i = 50; i < 150; ++i)
      ++(reference::covered(x, tau, i, tokens.home[static_cast<std::size_t>(i)]) ? covered : uncovered);
  }
  // The pairs straddle the threshold, so the test decides something.
  CHECK(covered > 5);
  CHECK(uncovered > 5);
  CHECK(rechecking >= 4);  // sketches, in each of the four sets
}

TEST_CASE("verdict: a duplicate is covered at tau = 1, at any scale", "[verdict][property]") {
  const auto d = GENERATE(1, 2, 3, 64, 577);
  CAPTURE(d);
  std::mt19937                    random(5);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 300; ++trial) {
    token_rows<float> rows(2, d);
    const float       scale = std::ldexp(1.0f, static_cast<int>(random() % 60) - 15);
    for (index_t c = 0; c < d; ++c) {
      const float value = scale * (1.0f + normal(random));
      rows.set(0, c, value), rows.set(1, c, value);
    }
    selector<float> select({.threshold = 1.0f, .filter = all_filters[trial % 5]});
    REQUIRE(select(std::as_const(rows).view()) == status::ok);
    CHECK(select.kept().count() == 1);
  }
}

TEST_CASE("verdict: rows below 2^-30 count as zero, rows above do not", "[verdict][property]") {
  const prefilter filter = GENERATE(from_range(std::begin(all_filters), std::end(all_filters)));
  CAPTURE(filter);
  const struct {
    float   value;
    index_t kept;
  } cases[] = {{0x1p-30f, 1}, {0x1.fffffep-31f, 3}, {0x1p-149f, 3}, {0.0f, 3}, {-0.0f, 3}, {0x1p63f, 1}};
  for (const auto [value, kept] : cases) {
    CAPTURE(value);
    token_rows<float> rows(3, 1);
    for (index_t i = 0; i < 3; ++i) rows.set(i, 0, value);
    selector<float> select({.threshold = 0x1p-90f, .filter = filter});  // the smallest threshold there is
    REQUIRE(select(std::as_const(rows).view()) == status::ok);
    CHECK(select.kept().count() == kept);
  }
}

TEST_CASE("verdict: opposite and orthogonal rows do not cover each other", "[verdict][property]") {
  token_rows<float> rows(3, 2);
  const float       values[3][2] = {{1, 0}, {-1, 0}, {0, 1}};
  for (index_t i = 0; i < 3; ++i)
    for (index_t c = 0; c < 2; ++c) rows.set(i, c, values[i][c]);
  selector<float> select({.threshold = 0x1p-90f});
  REQUIRE(select(std::as_const(rows).view()) == status::ok);
  CHECK(select.kept().count() == 3);
}

TEST_CASE("verdict: orthogonal rows do not cover each other where the bound underflows to zero",
          "[verdict][property]") {
  // tau n_i n_j is 2^-150, which rounds to zero: a product of zero reaches it, and is not positive.
  const auto    d      = GENERATE(2, 40);
  const auto    filter = GENERATE(from_range(std::begin(all_filters), std::end(all_filters)));
  const auto    assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const index_t T      = 70;
  CAPTURE(d, filter, assign);
  token_rows<float> rows(T, d);
  for (index_t i = 0; i < T; ++i)
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == i % d ? (i / d % 2 == 0 ? 0x1p-30f : -0x1p-30f) : 0.0f);
  const auto              x       = std::as_const(rows).view();
  const selection_options options = {.threshold = 0x1p-90f, .assign = assign, .filter = filter};
  const auto              chosen  = check_every_path<float>(x, options, random_state(T, 1).view());
  CHECK(chosen.indices.size() == static_cast<std::size_t>(std::min(T, 2 * d)));  // each axis, both ways
}

TEST_CASE("verdict: a zero row and the longest ones do not cover each other", "[verdict][property]") {
  const prefilter filter = GENERATE(from_range(std::begin(all_filters), std::end(all_filters)));
  const float     tau    = GENERATE(0x1p-90f, 0x1p-30f, 1.0f);
  const auto      d      = GENERATE(1, 40);
  CAPTURE(filter, tau, d);
  token_rows<float> rows(8, d);
  const float values[] = {0x1.fffffep-31f, 0x1.fffffep63f, 0x1.fffffep-31f, 0x1p63f, 0x1p-30f, 0.0f, 1.0f, 0x1p62f};
  for (index_t i = 0; i < 8; ++i)
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == d / 2 ? values[i] : 0.0f);
  const selection_options options{.threshold = tau, .filter = filter};
  const auto              x = std::as_const(rows).view();
  selector<float>         select(options);
  const auto              expected = std::vector<index_t>{0, 1, 2, 1, 1, 5, 1, 1};
  CHECK(reference::select<float>(x, options).rep == expected);
  REQUIRE(select(x) == status::ok);
  CHECK(to_vector(select.kept().rep) == expected);
  REQUIRE(select.literal(x) == status::ok);
  CHECK(to_vector(select.kept().rep) == expected);
}

TEMPLATE_TEST_CASE("verdict: among the nearest, the one of lowest index", "[verdict][property]", float, bfloat16) {
  // Rows of small integers: many cosines are equal, and all sums exact.
  const auto    d      = GENERATE(3, 5, 40, 100);
  const float   tau    = GENERATE(0.7f, 0.8f, 0.9f);
  const auto    filter = GENERATE(from_range(sample(all_filters)));
  const index_t T      = 150;
  CAPTURE(d, tau, filter);
  int ties = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    std::mt19937         random(seed);
    token_rows<TestType> rows(T, d);
    for (index_t i = 0; i < T; ++i) {
      for (index_t c = 0; c < d; ++c) rows.set(i, c, 0.0f);
      for (index_t k = 0; k < std::min(d, 4); ++k)  // spread over the row
        rows.set(i, k * std::max(1, d / 4), static_cast<float>(static_cast<int>(random() % 5) - 1));
    }
    const auto              x       = std::as_const(rows).view();
    const selection_options options = {.threshold = tau, .assign = assignment::nearest, .filter = filter};
    const auto              full    = check_every_path<TestType>(x, options, random_state(T, seed).view());
    for (index_t i = 0; i < T; ++i)
      for (const index_t j : full.indices)
        if (const index_t rep = full.rep[static_cast<std::size_t>(i)];
            rep < j && j < i && reference::covered<TestType>(x, tau, i, j))
          ties += !reference::nearer<TestType>(x, i, rep, j);
  }
  CHECK(ties > 0);
}

TEST_CASE("verdict: estimates hold for rows at the ends of the range of floats", "[verdict][property]") {
  const prefilter filter = GENERATE(from_range(sample(all_filters)));
  const auto      d      = GENERATE(33, 128);
  CAPTURE(filter, d);
  std::mt19937                    random(9);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 20; ++trial) {
    // Norms from zero rows to squares that nearly overflow; bfloat16 and products of subnormal elements are lost.
    const float       scales[] = {0.0f, 0x1p-149f, 0x1p-130f, 0x1p-31f, 0x1p-29f, 1.0f, 0x1p40f, 0x1.8p60f, 0x1.4p63f};
    token_rows<float> rows(80, d);
    for (index_t i = 0; i < 80; ++i) {
      const float scale = scales[random() % 9], root = std::sqrt(static_cast<float>(d));
      for (index_t c = 0; c < d; ++c) {
        const float tiny = random() % 4 == 0 ? 0x1p-128f : 1.0f;
        rows.set(i, c, scale * tiny / root * (1 + 0.5f * std::clamp(normal(random), -1.0f, 1.0f)));
      }
    }
    const auto              x = std::as_const(rows).view();
    const selection_options options{.threshold = trial % 2 ? 0.9f : 0x1p-20f, .filter = filter};
    const auto              expected = reference::select<float>(x, options);
    selector<float>         select(options);
    REQUIRE(select(x) == status::ok);
    CHECK(to_vector(select.kept().rep) == expected.rep);
  }
}

TEST_CASE("verdict: code compiled with -ffast-math gives the same sets", "[verdict][property]") {
  const auto  d    = GENERATE(2, 33, 576);
  const float tau  = GENERATE(0.3f, 0.8f, 1.0f);
  const auto  seed = GENERATE(from_range(sample(std::vector{1u, 2u, 3u})));
  CAPTURE(d, tau, seed);
  const auto close = near_threshold(200, d, std::min(tau, 0.95f), seed).rows;
  const auto odd   = make_tokens<float>(kind::tiny_and_huge, 200, d, seed);
  const auto zeros = make_tokens<float>(kind::zero_rows, 200, d, seed);
  for (const auto* tokens : {&close, &odd, &zeros}) {
    const auto x        = tokens->view();
    const auto expected = reference::select<float>(x, {.threshold = tau});
    for (const prefilter filter : all_filters) CHECK(fast_math_select(x, tau, filter) == expected.rep);
    CHECK(fast_math_cascade(x, random_state(200, seed).view(), tau) ==
          reference::cascade<float>(x, random_state(200, seed).view(), {.threshold = tau}).rep);
  }
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0.5f})
    CHECK(fast_math_select(close.view(), wrong, prefilter::none).empty());
  auto broken = make_tokens<float>(kind::random, 20, d, 1);
  broken.set(13, 0, std::numeric_limits<float>::quiet_NaN());
  CHECK(fast_math_status(std::as_const(broken).view()) == status::non_finite_token);
  broken.set(13, 0, -std::numeric_limits<float>::infinity());
  CHECK(fast_math_status(std::as_const(broken).view()) == status::non_finite_token);
}
