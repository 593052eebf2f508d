// Bad input of selection and cascade: the status, and the state left as it was.

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// The answer of every entry point has this code and this sentence.
void check_answer(status answer, status expected) {
  CHECK(answer == expected);
  CHECK(std::string(message(answer)) == message(expected));
}

/// Runs one bad input through every entry point; each keeps what it had.
void check_refused(matrix_view<const float> bad, selection_options options, status expected) {
  const auto      good = make_tokens<float>(kind::clustered, 40, 8, 1);
  selector<float> model;
  REQUIRE(model(good.view()) == status::ok);
  const auto rep = to_vector(model.kept().rep);

  selector<float> full(options), literal(options);
  check_answer(full(bad), expected);
  CHECK(full.kept().tokens() == 0);
  check_answer(literal.literal(bad), expected);
  CHECK(literal.kept().tokens() == 0);
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    options.validate = validate;
    cascade<float> first(options), later(options);
    check_answer(first.step(bad), expected);
    CHECK(first.kept().tokens() == 0);
    REQUIRE(later.inherit(model.kept()) == status::ok);
    check_answer(later.step(bad), expected);
    CHECK(to_vector(later.kept().rep) == rep);
  }
}

}  // namespace

TEST_CASE("errors: shapes of token rows", "[errors]") {
  const auto               tokens = make_tokens<float>(kind::random, 40, 8, 1);
  matrix_view<const float> x      = tokens.view();
  const char*              why    = "";
  SECTION("null data") { x.data = nullptr, why = "x.data is null"; }
  SECTION("negative rows") { x.rows = -1, why = "x.rows is negative"; }
  SECTION("no columns") { x.cols = 0, why = "x.cols is less than 1"; }
  SECTION("negative columns") { x.cols = -4, why = "x.cols is less than 1"; }
  SECTION("stride below columns") { x.stride = 7, why = "x.stride is less than x.cols"; }
  check_refused(x, {}, {status::invalid_shape, why});
}

TEST_CASE("errors: a limit of representatives that leaves no room", "[errors]") {
  const auto tokens = make_tokens<float>(kind::random, 40, 8, 1);
  check_refused(
      tokens.view(), {.max_representatives = -1},
      {status::invalid_shape, "options.max_representatives is less than 1; no_limit makes room for all tokens"});
  check_refused(
      tokens.view(), {.max_representatives = 0},
      {status::invalid_shape, "options.max_representatives is less than 1; no_limit makes room for all tokens"});
}

TEST_CASE("errors: no tokens is no error, whatever their columns and data", "[errors]") {
  constexpr index_t many     = std::numeric_limits<index_t>::max();
  const auto        validate = GENERATE(validation::exact, validation::cross_gram);
  const auto        none =
      GENERATE(as<matrix_view<const float>>{}, matrix_view<const float>{nullptr, 0, 8, 8},
               matrix_view<const float>{nullptr, 0, 0, 0}, matrix_view<const float>{nullptr, 0, many, many},
               matrix_view<const float>{nullptr, 0, -5, -7});
  const auto some = make_tokens<float>(kind::random, 40, 8, 1);
  CAPTURE(validate, none.cols);
  selector<float> select, used;
  cascade<float>  walk({.validate = validate});
  REQUIRE(used(some.view()) == status::ok);
  CHECK(select(none) == status::ok);
  CHECK(used(none) == status::ok);
  CHECK(used.kept().tokens() == 0);
  CHECK(used.report().representatives == 0);
  CHECK(select.literal(none) == status::ok);
  CHECK(walk.step(none) == status::ok);
  CHECK(walk.step(none) == status::ok);
  CHECK(walk.kept().count() == 0);
  CHECK(walk.report().jaccard == 1.0);
  CHECK(walk.report().savings() == 0);
}

TEST_CASE("errors: thresholds", "[errors]") {
  const float tau    = GENERATE(0.0f, -0.5f, 1.0000001f, not_a_number, infinity, -infinity);
  const auto  tokens = make_tokens<float>(kind::random, 40, 8, 1);
  CAPTURE(tau);
  check_refused(tokens.view(), {.threshold = tau},
                {status::invalid_threshold, "options.threshold does not lie in (0, 1]"});
  CHECK(selector<float>({.threshold = tau})({}) == status::invalid_threshold);
}

TEST_CASE("errors: thresholds too small to compute with", "[errors]") {
  const float tau    = GENERATE(0x1p-149f, 0x1p-126f, 0x1.fffffep-91f);
  const auto  tokens = make_tokens<float>(kind::random, 40, 8, 1);
  CAPTURE(tau);
  check_refused(
      tokens.view(), {.threshold = tau},
      {status::invalid_threshold, "options.threshold is below 2^-90, where its products with norms underflow"});
  CHECK(selector<float>({.threshold = 0x1p-90f})(tokens.view()) == status::ok);
}

TEST_CASE("errors: tokens that are not finite", "[errors]") {
  // 2e19 squared overflows a float; so does a sum of squares that are below the limit one by one.
  const float value = GENERATE(as<float>{}, not_a_number, infinity, -infinity, 2e19f);
  const auto  row   = GENERATE(0, 20, 39);
  CAPTURE(value, row);
  auto tokens = make_tokens<float>(kind::random, 40, 8, 1);
  tokens.set(row, 5, value);
  const status overflows = {status::non_finite_token, "x has a row whose squared norm overflows"};
  check_refused(std::as_const(tokens).view(), {},
                value == 2e19f ? overflows : status{status::non_finite_token, "x has NaN or Inf"});
  for (index_t c = 0; c < 8; ++c) tokens.set(row, c, 1e19f);
  check_refused(std::as_const(tokens).view(), {}, overflows);
}

TEST_CASE("errors: sizes whose product overflows", "[errors]") {
  constexpr index_t many = std::numeric_limits<index_t>::max(), most = many - 4096;
  float             x = 0;
  check_refused({&x, most, 8, std::int64_t{1} << 40}, {}, {status::too_large, "x.rows times x.stride overflows"});
  check_refused({&x, most, most, most}, {}, {status::too_large, "x.rows times x.stride overflows"});
  const matrix_view<const bfloat16> narrow{nullptr, most, most, most};
  bfloat16                          y;
  selector<bfloat16>                select;
  check_answer(select({&y, narrow.rows, narrow.cols, narrow.stride}),
               {status::too_large, "x.rows times x.cols overflows"});
  for (const auto& [rows, cols] : {std::pair{many, 8}, std::pair{1, many}})
    check_refused({&x, rows, cols, cols}, {}, {status::too_large, "x has more rows or columns than 2^31 - 4097"});
}

TEST_CASE("errors: strides that leave no room for another row", "[errors]") {
  const auto filter = GENERATE(from_range(std::begin(all_filters), std::end(all_filters)));
  const auto one    = make_tokens<float>(kind::random, 1, 40, 1);
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    const matrix_view<const float> x{one.view().data, 1, 40, std::int64_t{1} << 60};
    selector<float>                select({.filter = filter});
    cascade<float>                 walk({.validate = validate, .filter = filter});
    CHECK(select(x) == status::ok);
    CHECK(select.literal(x) == status::ok);
    CHECK(walk.step(x) == status::ok);
    CHECK(walk.step(x) == status::ok);
    CHECK(walk.kept().count() == 1);
  }
}

TEST_CASE("errors: a Gram matrix whose size overflows", "[errors]") {
  float           x = 0;
  selector<float> select;
  check_answer(select.literal({&x, 1518500250, 1, 1}), {status::too_large, "x.rows times x.rows overflows"});
}

TEST_CASE("errors: more representatives than there is room for", "[errors]") {
  const auto tokens = make_tokens<float>(kind::random, 40, 8, 1);
  check_refused(
      tokens.view(), {.max_representatives = 5},
      {status::too_many_representatives, "the selection has more representatives than options.max_representatives"});
  // Exactly enough room is enough.
  selector<float> free;
  REQUIRE(free(tokens.view()) == status::ok);
  selector<float> exact({.max_representatives = free.kept().count()});
  CHECK(exact(tokens.view()) == status::ok);
}

TEST_CASE("errors: a state for another number of tokens", "[errors]") {
  const auto tokens = make_tokens<float>(kind::random, 40, 8, 1), longer = make_tokens<float>(kind::random, 41, 8, 1);
  cascade<float> walk;
  REQUIRE(walk.step(tokens.view()) == status::ok);
  const auto rep = to_vector(walk.kept().rep);
  check_answer(walk.step(longer.view()),
               {status::invalid_representatives, "x.rows is not the number of tokens of the layer before"});
  CHECK(to_vector(walk.kept().rep) == rep);
}

TEST_CASE("errors: inherited states that no selection could have left", "[errors]") {
  const owned_representatives good{{0, 2, 5}, {0, 0, 2, 0, 2, 5}, {3, 2, 1}};
  cascade<float>              walk;
  REQUIRE(walk.inherit(good.view()) == status::ok);
  owned_representatives bad = good;
  std::string           why;
  SECTION("unsorted") { bad.indices = {2, 0, 5}, why = "indices does not ascend"; }
  SECTION("repeated") { bad.indices = {0, 2, 2}, why = "indices does not ascend"; }
  SECTION("a member missing") {
    bad.indices = {0, 2}, bad.counts = {3, 3};
    why = "indices lacks a token that stands for itself";
  }
  SECTION("out of range") { bad.indices = {0, 2, 6}, why = "indices has an entry that is no token"; }
  SECTION("negative") { bad.indices = {-1, 2, 5}, why = "indices has an entry that is no token"; }
  SECTION("a member that another represents") {
    bad.indices = {0, 3, 5}, why = "indices has a token that does not stand for itself";
  }
  SECTION("rep after the token") { bad.rep[1] = 2, why = "rep names a token after the one it stands for"; }
  SECTION("rep is no representative") { bad.rep[4] = 3, why = "rep names a token that does not stand for itself"; }
  SECTION("rep out of range") { bad.rep[4] = 6, why = "rep names a token after the one it stands for"; }
  SECTION("rep negative") { bad.rep[4] = -1, why = "rep has a negative entry"; }
  const char* counts = "counts are not how many tokens each of representatives.indices stands for";
  SECTION("counts that do not add up") { bad.counts = {3, 2, 2}, why = counts; }
  SECTION("a count of nothing") { bad.counts = {3, 3, 0}, why = counts; }
  SECTION("counts that add up, and are wrong") { bad.counts = {2, 3, 1}, why = counts; }
  SECTION("counts missing") {
    bad.counts = {3, 3}, why = "counts has not one entry for each of representatives.indices";
  }
  SECTION("more members than tokens") {
    bad.indices = {0, 1, 2, 3, 4, 5, 6}, why = "indices has more entries than tokens";
  }
  check_answer(walk.inherit(bad.view()), {status::invalid_representatives, why.insert(0, "representatives.").c_str()});
  CHECK(to_vector(walk.kept().indices) == good.indices);
  CHECK(to_vector(walk.kept().rep) == good.rep);
}

TEST_CASE("errors: every code has a sentence of its own", "[errors]") {
  std::vector<std::string> sentences;
  for (int s = 0; s <= static_cast<int>(status::device_error); ++s) {
    const status answer = static_cast<status::code>(s);
    CHECK(static_cast<int>(answer) == s);
    CHECK(static_cast<status::code>(answer) == s);
    sentences.emplace_back(message(answer));
  }
  for (std::size_t a = 0; a < sentences.size(); ++a) {
    CHECK(sentences[a] != message(static_cast<status::code>(99)));
    for (std::size_t b = 0; b < a; ++b) CHECK(sentences[a] != sentences[b]);
  }
}

TEST_CASE("errors: codes compare, whatever the sentences", "[errors]") {
  constexpr status refused = {status::invalid_shape, "x.rows is negative"};
  static_assert(refused == status::invalid_shape && refused != status::ok && refused != status::too_large);
  CHECK(refused == status{status::invalid_shape, "x.data is null"});
  CHECK(std::string(message(refused)) == "x.rows is negative");
  CHECK(std::string(message(status::too_large)) == message(status{status::too_large}));
}
