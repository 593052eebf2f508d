// Selections that grow: what is refused, what fails, and layers whose sets follow each other. That pieces give what one
// call gives is also held by random_cases.cpp.

#include <cstddef>
#include <limits>
#include <new>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "allocation_counter.hpp"

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr index_t grown_tokens = 330, grown_width = 24;

}  // namespace

TEMPLATE_TEST_CASE("growing selection: layer by layer, as the cascade", "[property]", float, bfloat16) {
  const auto assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto kind   = GENERATE(kind::clustered, kind::random, kind::duplicates, kind::zero_rows, kind::tiny_and_huge);
  const auto piece  = GENERATE(1, 7, 100, 300);
  CAPTURE(assign, kind, piece);
  constexpr unsigned                       depth = 4;
  std::vector<token_rows<TestType>>        layers;
  std::vector<growing_selection<TestType>> sets;
  for (unsigned l = 0; l < depth; ++l) {
    layers.push_back(make_tokens<TestType>(kind, grown_tokens, grown_width, 3, l));
    sets.emplace_back(selection_options{.threshold = 0.6f, .assign = assign});
  }
  // Pieces pass through all layers one after the other, as an engine's do.
  for (index_t begin = 0; begin < grown_tokens; begin += piece) {
    const index_t            end   = std::min(grown_tokens, begin + piece);
    std::span<const index_t> below = {};
    for (unsigned l = 0; l < depth; ++l) {
      REQUIRE(sets[l].extend(rows_of(layers[l], begin, end), below) == status::ok);
      below = sets[l].kept().rep.subspan(static_cast<std::size_t>(begin));
    }
  }
  cascade<TestType> walk({.threshold = 0.6f, .assign = assign});
  for (unsigned l = 0; l < depth; ++l) {
    CAPTURE(l);
    REQUIRE(walk.step(layers[l].view()) == status::ok);
    CHECK(same_sets(sets[l].kept(), walk.kept()));
    CHECK(sets[l].report().tokens == grown_tokens);
    CHECK(sets[l].report().representatives == walk.report().representatives);
    CHECK(sets[l].bytes() > 0);
  }
}

TEST_CASE("growing selection: what is refused leaves it as it was", "[errors]") {
  const auto               tokens = make_tokens<float>(kind::clustered, grown_tokens, grown_width, 1);
  growing_selection<float> grow({.threshold = 0.6f});
  REQUIRE(grow.extend(rows_of(tokens, 0, 100)) == status::ok);
  const auto refused = [&](matrix_view<const float> x, std::span<const index_t> below = {}) {
    return std::string(message(grow.extend(x, below)));
  };
  auto narrow = rows_of(tokens, 100, 110);
  narrow.cols = grown_width - 1;
  CHECK(refused(narrow) == "x.cols differs from that of earlier calls");
  const std::vector<index_t> short_one(9, 0), negative = {0, -1}, late = {100, 102};
  CHECK(refused(rows_of(tokens, 100, 110), short_one) == "below has not one entry for each row of x");
  CHECK(refused(rows_of(tokens, 100, 102), negative) == "below has a negative entry");
  CHECK(refused(rows_of(tokens, 100, 102), late) == "below names a token after the one it stands for");
  CHECK(std::string(message(grow.truncate(-1))) == "tokens is negative");
  CHECK(std::string(message(grow.truncate(101))) == "tokens is more than the selection has");
  auto wild = make_tokens<float>(kind::clustered, grown_tokens, grown_width, 1);
  wild.set(120, 3, std::numeric_limits<float>::infinity());
  CHECK(grow.extend(rows_of(wild, 100, grown_tokens)) == status::non_finite_token);
  CHECK(grow.report().gram.total() > 0);
  CHECK(grow.extend({}) == status::ok);
  CHECK(grow.report().gram.total() == 0);
  CHECK(grow.report().tokens == 100);
  CHECK(grow.report().representatives == grow.kept().count());

  CHECK(grow.kept().tokens() == 100);
  REQUIRE(grow.extend(rows_of(tokens, 100, grown_tokens)) == status::ok);
  selector<float> select({.threshold = 0.6f});
  REQUIRE(select(tokens.view()) == status::ok);
  CHECK(same_sets(grow.kept(), select.kept()));

  growing_selection<float> capped({.threshold = 0.6f, .max_representatives = select.kept().count() - 1});
  REQUIRE(capped.extend(rows_of(tokens, 0, 50)) == status::ok);
  CHECK(capped.extend(rows_of(tokens, 50, grown_tokens)) == status::too_many_representatives);
  CHECK(capped.kept().tokens() == 50);
}

TEST_CASE("growing selection: memory runs out", "[errors][lifetimes]") {
  const auto      tokens = make_tokens<float>(kind::clustered, grown_tokens, grown_width, 1);
  selector<float> select({.threshold = 0.6f});
  REQUIRE(select(tokens.view()) == status::ok);
  for (const index_t before : {0, 40}) {
    bool failed = true;
    long n      = 0;
    while (failed) {
      growing_selection<float> grow({.threshold = 0.6f});
      if (before > 0) REQUIRE(grow.extend(rows_of(tokens, 0, before)) == status::ok);
      status answer = status::unsupported;
      failed        = runs_out_at(++n, [&] { answer = grow.extend(rows_of(tokens, before, grown_tokens)); });
      CAPTURE(before, n);
      if (failed) {
        CHECK(grow.kept().tokens() == before);
        answer = grow.extend(rows_of(tokens, before, grown_tokens));
      }
      CHECK(answer == status::ok);
      CHECK(same_sets(grow.kept(), select.kept()));
    }
    CHECK(n > 1);
  }
}

TEST_CASE("growing selection: memory runs out while a saved one is loaded", "[errors][lifetimes]") {
  const auto               tokens = make_tokens<float>(kind::clustered, grown_tokens, grown_width, 1);
  const auto               other  = make_tokens<float>(kind::random, grown_tokens, grown_width, 9);
  growing_selection<float> from({.threshold = 0.6f});
  REQUIRE(from.extend(rows_of(tokens, 0, 200)) == status::ok);
  std::vector<std::byte> bytes(from.saved_bytes());
  CHECK(allocations_of([&] { CHECK(from.save(bytes) == status::ok); }) == 0);
  selector<float> select({.threshold = 0.6f});
  REQUIRE(select(tokens.view()) == status::ok);
  bool failed = true;
  long n      = 0;
  while (failed) {
    growing_selection<float> to({.threshold = 0.6f});
    REQUIRE(to.extend(rows_of(other, 0, 50)) == status::ok);
    const growing_selection<float> before = to;
    status                         answer = status::unsupported;
    failed                                = runs_out_at(++n, [&] { answer = to.load(bytes); });
    CAPTURE(n);
    if (failed) {
      CHECK(same_sets(to.kept(), before.kept()));
      answer = to.load(bytes);
    }
    CHECK(answer == status::ok);
    CHECK(same_sets(to.kept(), from.kept()));
    REQUIRE(to.extend(rows_of(tokens, 200, grown_tokens)) == status::ok);
    CHECK(same_sets(to.kept(), select.kept()));
  }
  CHECK(n > 1);
}

TEST_CASE("growing selection: copies are independent, and what was moved from is as new", "[lifetimes]") {
  const auto               tokens = make_tokens<float>(kind::clustered, grown_tokens, grown_width, 1);
  const auto               other  = make_tokens<float>(kind::random, grown_tokens, grown_width, 9);
  growing_selection<float> first({.threshold = 0.6f});
  REQUIRE(first.extend(rows_of(tokens, 0, 200)) == status::ok);
  growing_selection<float> branch = first, forked({.threshold = 0.6f});
  REQUIRE(forked.extend(rows_of(other, 0, 10)) == status::ok);
  const representatives replaced = forked.kept();
  REQUIRE(first.fork(forked) == status::ok);
  REQUIRE(first.fork(first) == status::ok);
  CHECK(check(replaced, 10) == status::invalid_representatives);
  CHECK(same_sets(forked.kept(), first.kept()));
  REQUIRE(forked.extend(rows_of(tokens, 200, grown_tokens)) == status::ok);
  REQUIRE(branch.extend(rows_of(other, 200, grown_tokens)) == status::ok);
  growing_selection<float> moved = std::move(first);
  CHECK(first.kept().tokens() == 0);
  REQUIRE(first.extend(rows_of(other, 0, grown_tokens)) == status::ok);
  REQUIRE(moved.extend(rows_of(tokens, 200, grown_tokens)) == status::ok);
  selector<float> select({.threshold = 0.6f});
  REQUIRE(select(tokens.view()) == status::ok);
  CHECK(same_sets(moved.kept(), select.kept()));
  CHECK(same_sets(forked.kept(), select.kept()));
  moved.clear();
  REQUIRE(moved.extend(rows_of(tokens, 0, grown_tokens)) == status::ok);
  CHECK(same_sets(moved.kept(), select.kept()));
}

TEST_CASE("growing selection: small pieces allocate nothing once there is room", "[allocations]") {
  const auto               tokens = make_tokens<float>(kind::clustered, grown_tokens, grown_width, 1);
  growing_selection<float> grow({.threshold = 0.6f});
  REQUIRE(grow.extend(rows_of(tokens, 0, grown_tokens)) == status::ok);
  REQUIRE(grow.truncate(10) == status::ok);
  bool ok = true;
  CHECK(allocations_of([&] {
          while (ok && grow.kept().tokens() < grown_tokens)
            ok = grow.extend(rows_of(tokens, grow.kept().tokens(), grow.kept().tokens() + 1)) == status::ok;
        }) == 0);
  CHECK(ok);
}
