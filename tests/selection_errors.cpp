// Bad input of selection and cascade: the status, and the state left as it was.

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "cascada/cascade.hpp"
#include "catch.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity     = std::numeric_limits<float>::infinity();

/// Runs one bad input through every entry point; each keeps what it had.
void check_refused(matrix_view<const float> bad, selection_options options, status expected) {
  const auto      good = make_tokens<float>(kind::clustered, 40, 8, 1);
  selector<float> model;
  REQUIRE(model(good.view()) == status::ok);
  const auto rep = to_vector(model.kept().rep);

  selector<float> full(options), literal(options);
  CHECK(full(bad) == expected);
  CHECK(full.kept().tokens() == 0);
  CHECK(literal.literal(bad) == expected);
  CHECK(literal.kept().tokens() == 0);
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    options.validate = validate;
    cascade<float> first(options), later(options);
    CHECK(first.step(bad) == expected);
    CHECK(first.kept().tokens() == 0);
    REQUIRE(later.inherit(model.kept()) == status::ok);
    CHECK(later.step(bad) == expected);
    CHECK(to_vector(later.kept().rep) == rep);
  }
}

}  // namespace

TEST_CASE("errors: shapes of token rows", "[errors]") {
  const auto               tokens = make_tokens<float>(kind::random, 40, 8, 1);
  matrix_view<const float> x      = tokens.view();
  SECTION("null data") { x.data = nullptr; }
  SECTION("negative rows") { x.rows = -1; }
  SECTION("no columns") { x.cols = 0; }
  SECTION("negative columns") { x.cols = -4; }
  SECTION("stride below columns") { x.stride = 7; }
  check_refused(x, {}, status::invalid_shape);
}

TEST_CASE("errors: a negative limit of representatives", "[errors]") {
  const auto      tokens = make_tokens<float>(kind::random, 40, 8, 1);
  selector<float> select({.max_representatives = -1});
  CHECK(select(tokens.view()) == status::invalid_shape);
}

TEST_CASE("errors: no tokens is no error", "[errors]") {
  selector<float> select;
  cascade<float>  walk;
  CHECK(select({nullptr, 0, 8, 8}) == status::ok);
  CHECK(select.literal({nullptr, 0, 8, 8}) == status::ok);
  CHECK(walk.step({nullptr, 0, 8, 8}) == status::ok);
  CHECK(walk.step({nullptr, 0, 8, 8}) == status::ok);
  CHECK(walk.kept().count() == 0);
  CHECK(walk.report().jaccard == 1.0);
  CHECK(walk.report().savings() == 0);
}

TEST_CASE("errors: thresholds", "[errors]") {
  const float tau    = GENERATE(0.0f, -0.5f, 1.0000001f, not_a_number, infinity, -infinity);
  const auto  tokens = make_tokens<float>(kind::random, 40, 8, 1);
  CAPTURE(tau);
  check_refused(tokens.view(), {.threshold = tau}, status::invalid_threshold);
}

TEST_CASE("errors: tokens that are not finite", "[errors]") {
  // 2e19 squared overflows a float; so does a sum of squares that are below the limit one by one.
  const float value = GENERATE(as<float>{}, not_a_number, infinity, -infinity, 2e19f);
  const auto  row   = GENERATE(0, 20, 39);
  CAPTURE(value, row);
  auto tokens = make_tokens<float>(kind::random, 40, 8, 1);
  tokens.set(row, 5, value);
  check_refused(std::as_const(tokens).view(), {}, status::non_finite_token);
  for (index_t c = 0; c < 8; ++c) tokens.set(row, c, 1e19f);
  check_refused(std::as_const(tokens).view(), {}, status::non_finite_token);
}

TEST_CASE("errors: sizes whose product overflows", "[errors]") {
  constexpr index_t many = std::numeric_limits<index_t>::max();
  float             x    = 0;
  check_refused({&x, many, 8, std::int64_t{1} << 40}, {}, status::too_large);
  check_refused({&x, many, many, many}, {}, status::too_large);
}

TEST_CASE("errors: more representatives than there is room for", "[errors]") {
  const auto tokens = make_tokens<float>(kind::random, 40, 8, 1);
  check_refused(tokens.view(), {.max_representatives = 5}, status::workspace_too_small);
  // Exactly enough room is enough.
  selector<float> free;
  REQUIRE(free(tokens.view()) == status::ok);
  selector<float> exact({.max_representatives = free.kept().count()});
  CHECK(exact(tokens.view()) == status::ok);
}

TEST_CASE("errors: a state for another number of tokens", "[errors]") {
  const auto     tokens = make_tokens<float>(kind::random, 40, 8, 1), longer = make_tokens<float>(kind::random, 41, 8, 1);
  cascade<float> walk;
  REQUIRE(walk.step(tokens.view()) == status::ok);
  const auto rep = to_vector(walk.kept().rep);
  CHECK(walk.step(longer.view()) == status::invalid_representatives);
  CHECK(to_vector(walk.kept().rep) == rep);
}

TEST_CASE("errors: inherited states that no selection could have left", "[errors]") {
  const owned_representatives good{{0, 2, 5}, {0, 0, 2, 0, 2, 5}, {3, 2, 1}};
  cascade<float>              walk;
  REQUIRE(walk.inherit(good.view()) == status::ok);
  owned_representatives bad = good;
  SECTION("unsorted") { bad.indices = {2, 0, 5}; }
  SECTION("repeated") { bad.indices = {0, 2, 2}; }
  SECTION("a member missing") { bad.indices = {0, 2}, bad.counts = {3, 3}; }
  SECTION("out of range") { bad.indices = {0, 2, 6}; }
  SECTION("negative") { bad.indices = {-1, 2, 5}; }
  SECTION("a member that another represents") { bad.indices = {0, 3, 5}; }
  SECTION("rep after the token") { bad.rep[1] = 2; }
  SECTION("rep is no representative") { bad.rep[4] = 3; }
  SECTION("rep out of range") { bad.rep[4] = 6; }
  SECTION("rep negative") { bad.rep[4] = -1; }
  SECTION("counts that do not add up") { bad.counts = {3, 2, 2}; }
  SECTION("a count of nothing") { bad.counts = {3, 3, 0}; }
  SECTION("counts missing") { bad.counts = {3, 3}; }
  SECTION("more members than tokens") { bad.indices = {0, 1, 2, 3, 4, 5, 6}; }
  CHECK(walk.inherit(bad.view()) == status::invalid_representatives);
  CHECK(to_vector(walk.kept().indices) == good.indices);
  CHECK(to_vector(walk.kept().rep) == good.rep);
}

TEST_CASE("errors: every status has a sentence of its own", "[errors]") {
  std::vector<std::string> sentences;
  for (int s = 0; s <= static_cast<int>(status::device_error); ++s) sentences.emplace_back(message(static_cast<status>(s)));
  for (std::size_t a = 0; a < sentences.size(); ++a) {
    CHECK(sentences[a] != message(static_cast<status>(99)));
    for (std::size_t b = 0; b < a; ++b) CHECK(sentences[a] != sentences[b]);
  }
}
