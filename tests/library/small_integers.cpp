// Rows of small integers: all products are exact, so there are ties, zeros, and pairs that lie right at the threshold.
// And rows as near to a tie as floats can be.

#include <cmath>
#include <random>
#include <utility>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "every_path.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// T rows of `d` integers from -2 to 2, times `unit`.
token_rows<float> integer_rows(index_t T, index_t d, float unit, unsigned seed) {
  std::mt19937      random(seed);
  token_rows<float> rows(T, d);
  for (index_t i = 0; i < T; ++i)
    for (index_t c = 0; c < d; ++c) rows.set(i, c, unit * static_cast<float>(static_cast<int>(random() % 5) - 2));
  return rows;
}

/// Tokens that have two covering representatives of exactly the same cosine, none nearer.
index_t ties(matrix_view<const float> x, float tau, const reference::selection& chosen) {
  index_t count = 0;
  for (index_t i = 0; i < x.rows; ++i) {
    const index_t rep  = chosen.rep[static_cast<std::size_t>(i)];
    bool          tied = false;
    for (const index_t j : chosen.indices)
      tied |= j < i && j != rep && rep != i && reference::covered(x, tau, i, j) && !reference::nearer(x, i, rep, j);
    count += tied;
  }
  return count;
}

}  // namespace

// 400 tokens: more than are walked at a time.
TEST_CASE("small integers: ties go to the lower index on every path", "[select][cascade][property]") {
  const auto d      = GENERATE(2, 3, 5, 40);
  const auto assign = GENERATE(assignment::lowest_index, assignment::nearest);
  CAPTURE(d, assign);
  index_t tied = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    const auto              tokens = integer_rows(400, d, 1, seed);
    const auto              x      = std::as_const(tokens).view();
    const selection_options options{
        .threshold = d == 40 ? 0.25f : 0.5f, .assign = assign, .filter = all_filters[seed % 5]};
    tied += ties(x, options.threshold, check_every_path<float>(x, options, random_state(400, seed).view()));
  }
  if (assign == assignment::nearest && d < 40) CHECK(tied > 10);  // so the test decides something
}

TEST_CASE("small integers: a product of zero covers nothing, even where the threshold rounds to zero",
          "[verdict][property]") {
  const prefilter filter = GENERATE(from_range(std::begin(all_filters), std::end(all_filters)));
  CAPTURE(filter);
  // tau n_i = 2^-120, and times n_j, 2^-30 too, it lies half-way between zero and the least float.
  const float       norm = 0x1p-30f, tau = 0x1p-90f;
  token_rows<float> rows(64, 64);
  for (index_t i = 0; i < 64; ++i)
    for (index_t c = 0; c < 64; ++c) rows.set(i, c, i == c ? norm : 0.0f);
  const auto x = std::as_const(rows).view();
  REQUIRE(tau * norm * norm == 0);
  for (const auto assign : {assignment::lowest_index, assignment::nearest}) {
    selector<float> select({.threshold = tau, .assign = assign, .filter = filter});
    REQUIRE(select(x) == status::ok);
    CHECK(select.kept().count() == 64);
    REQUIRE(select.literal(x) == status::ok);
    CHECK(select.kept().count() == 64);
    cascade<float> walk({.threshold = tau, .assign = assign, .filter = filter});
    REQUIRE(walk.inherit(random_state(64, 3).view()) == status::ok);
    REQUIRE(walk.step(x) == status::ok);
    CHECK(walk.kept().count() == 64);
  }
}

TEST_CASE("near ties: the nearest by the canonical products, on every path", "[select][cascade][property]") {
  const auto d = GENERATE(40, 64, 257);
  CAPTURE(d);
  index_t first = 0, second = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    // Groups of three: two directions, and their sum, whose cosines with them differ by a few roundings.
    std::mt19937                    random(seed);
    std::normal_distribution<float> normal;
    token_rows<float>               rows(120, d);
    for (index_t i = 0; i < 120; i += 3) {
      float squares[2] = {};
      for (index_t half = 0; half < 2; ++half)
        for (index_t c = 0; c < d; ++c) {
          const float value = normal(random);
          rows.set(i + half, c, value);
          squares[half] += value * value;
        }
      for (index_t c = 0; c < d; ++c)
        rows.set(i + 2, c, rows.get(i, c) / std::sqrt(squares[0]) + rows.get(i + 1, c) / std::sqrt(squares[1]));
    }
    const auto              x = std::as_const(rows).view();
    const selection_options options{.threshold = 0.6f, .assign = assignment::nearest, .filter = all_filters[seed % 5]};
    const auto              full = check_every_path<float>(x, options, random_state(120, seed).view());
    for (index_t i = 2; i < 120; i += 3) {
      first += full.rep[static_cast<std::size_t>(i)] == i - 2;
      second += full.rep[static_cast<std::size_t>(i)] == i - 1;
    }
  }
  CHECK(first > 40);
  CHECK(second > 40);
}
