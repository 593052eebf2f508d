// The theorem: a cascade step gives the set of full selection, whatever state it inherits.

#include <utility>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "sample.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Checks one step against full selection and against the reference cascade, down to every count.
template <class Scalar>
void check_step(const cascade<Scalar>& ours, matrix_view<const Scalar> x, const representatives& before,
                const selection_options& options) {
  const auto full     = reference::select<Scalar>(x, options);
  const auto expected = reference::cascade<Scalar>(x, before, options);
  const auto kept     = ours.kept();
  CHECK(to_vector(kept.indices) == full.indices);
  CHECK(to_vector(kept.indices) == expected.indices);
  CHECK(to_vector(kept.rep) == expected.rep);
  CHECK(to_vector(kept.counts) == expected.counts);
  CHECK(check(kept, x.rows) == status::ok);

  const selection_report& report = ours.report();
  CHECK(report.gram == expected.report.gram);
  CHECK(report.additions == expected.report.additions);
  CHECK(report.removals == expected.report.removals);
  CHECK(report.inherited == expected.report.inherited);
  CHECK(report.orphans == expected.report.orphans);
  CHECK(report.jaccard == expected.report.jaccard);
  CHECK(report.representatives - report.additions + report.removals == before.count());
  CHECK(report.pairs_evaluated >= report.gram.total());
}

}  // namespace

TEMPLATE_TEST_CASE("cascade: from the layer before", "[cascade][property]", float, bfloat16) {
  const auto k        = GENERATE(from_range(sample(all_kinds)));
  const auto T        = GENERATE(1, 2, 65, 190);
  const auto d        = GENERATE(1, 24, 65);
  const auto assign   = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto validate = GENERATE(validation::exact, validation::cross_gram);
  CAPTURE(k, T, d, assign, validate);
  const selection_options options{.threshold = 0.75f, .assign = assign, .validate = validate};
  cascade<TestType>       walk(options);
  owned_representatives   before;
  for (unsigned layer = 0; layer < 4; ++layer) {
    CAPTURE(layer);
    const auto tokens = make_tokens<TestType>(k, T, d, 31, layer);
    REQUIRE(walk.step(tokens.view()) == status::ok);
    if (layer == 0) {
      CHECK(to_vector(walk.kept().indices) == reference::select<TestType>(tokens.view(), options).indices);
      CHECK(!walk.report().jaccard);
    } else {
      check_step<TestType>(walk, tokens.view(), before.view(), options);
    }
    before = {to_vector(walk.kept().indices), to_vector(walk.kept().rep), to_vector(walk.kept().counts)};
  }
}

TEST_CASE("cascade: from any legal state", "[cascade][property]") {
  const auto  k        = GENERATE(from_range(sample(all_kinds)));
  const auto  every    = GENERATE(1u, 2u, 9u, 1000u);  // of tokens in the state; 1: all are members
  const auto  seed     = GENERATE(1u, 2u, 3u);
  const float tau      = GENERATE(0.1f, 0.75f, 1.0f);
  const auto  assign   = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto  validate = GENERATE(validation::exact, validation::cross_gram);
  CAPTURE(k, every, seed, tau, assign, validate);
  const selection_options options{.threshold = tau, .assign = assign, .validate = validate};
  const auto              state  = random_state(150, seed, every);
  const auto              tokens = make_tokens<float>(k, 150, 20, seed);
  cascade<float>          walk(options);
  REQUIRE(walk.inherit(state.view()) == status::ok);
  CHECK(to_vector(walk.kept().rep) == state.rep);
  REQUIRE(walk.step(tokens.view()) == status::ok);
  check_step<float>(walk, tokens.view(), state.view(), options);
}

TEST_CASE("cascade: from the right state nothing changes, and each other token costs one operation",
          "[cascade][property]") {
  const auto     tokens = make_tokens<float>(kind::clustered, 300, 48, 4);
  cascade<float> walk;
  REQUIRE(walk.step(tokens.view()) == status::ok);
  const auto first = to_vector(walk.kept().rep);
  REQUIRE(walk.step(tokens.view()) == status::ok);
  CHECK(to_vector(walk.kept().rep) == first);
  CHECK(walk.report().additions == 0);
  CHECK(walk.report().removals == 0);
  CHECK(walk.report().orphans == 0);
  CHECK(walk.report().jaccard == 1.0);
  const index_t r = walk.kept().count();
  CHECK(walk.report().gram.inherited == 300 - r);
  CHECK(walk.report().gram.validation == full_gram_operations(r));
}

TEST_CASE("cascade: paper mode evaluates the whole cross-Gram matrix", "[cascade][property]") {
  const auto     tokens = make_tokens<float>(kind::clustered, 200, 32, 8);
  const auto     state  = random_state(200, 5);
  cascade<float> paper({.validate = validation::cross_gram});
  REQUIRE(paper.inherit(state.view()) == status::ok);
  REQUIRE(paper.step(tokens.view()) == status::ok);
  const std::int64_t r = state.view().count();
  CHECK(paper.report().gram.cross_gram == (200 - r) * r);
  CHECK(paper.report().savings_cross_gram_only() > paper.report().savings());
}

TEST_CASE("cascade: the number of threads changes nothing", "[cascade][property][threads]") {
  const auto validate = GENERATE(validation::exact, validation::cross_gram);
  const auto threads  = GENERATE(2, 5);
  CAPTURE(validate, threads);
  const selection_options                            options{.validate = validate};
  thread_pool<compiled_isa>                          pool(threads);
  cascade<float>                                     pooled(options, {.executor = {&pool}});
  cascade<float, cpu<compiled_isa, serial_executor>> serial(options);
  for (unsigned layer = 0; layer < 3; ++layer) {
    const auto tokens = make_tokens<float>(kind::clustered, 400, 40, 6, layer);
    REQUIRE(pooled.step(tokens.view()) == status::ok);
    REQUIRE(serial.step(tokens.view()) == status::ok);
    CHECK(to_vector(pooled.kept().rep) == to_vector(serial.kept().rep));
    CHECK(pooled.report().gram == serial.report().gram);
  }
}

TEST_CASE("cascade: forks, moves and resets", "[cascade][property]") {
  const auto one   = make_tokens<float>(kind::clustered, 120, 16, 1, 0),
             two   = make_tokens<float>(kind::clustered, 120, 16, 1, 1),
             other = make_tokens<float>(kind::clustered, 120, 16, 99);
  cascade<float> walk;
  REQUIRE(walk.step(one.view()) == status::ok);
  cascade<float> branch;
  REQUIRE(branch.step(other.view()) == status::ok);
  REQUIRE(walk.fork(branch) == status::ok);
  CHECK(to_vector(branch.kept().rep) == to_vector(walk.kept().rep));
  CHECK(branch.report().gram == walk.report().gram);
  const representatives view = branch.kept();
  REQUIRE(branch.fork(branch) == status::ok);
  CHECK_FALSE(view.stamp.stale());
  CHECK(to_vector(branch.kept().rep) == to_vector(walk.kept().rep));
  REQUIRE(branch.step(other.view()) == status::ok);
  CHECK(to_vector(walk.kept().rep) == reference::select<float>(one.view(), {}).rep);
  CHECK(to_vector(branch.kept().indices) == reference::select<float>(other.view(), {}).indices);

  cascade<float> moved = std::move(walk);
  REQUIRE(moved.step(two.view()) == status::ok);
  CHECK(moved.report().jaccard);
  moved.reset();
  CHECK(moved.kept().count() == 0);
  REQUIRE(moved.fork(branch) == status::ok);  // nothing
  CHECK(branch.kept().count() == 0);
  CHECK(branch.report().tokens == 0);
  const std::vector<index_t> own = {0, 0}, first = {0}, both = {2};
  REQUIRE(branch.inherit({first, own, both}) == status::ok);
  CHECK(branch.report().tokens == 2);
  CHECK(branch.report().representatives == 1);
  CHECK(branch.report().gram == gram_operations{});
  const auto longer = make_tokens<float>(kind::clustered, 333, 16, 1);
  REQUIRE(moved.step(longer.view()) == status::ok);
  CHECK(!moved.report().jaccard);
  CHECK(to_vector(moved.kept().rep) == reference::select<float>(longer.view(), {}).rep);
}

TEST_CASE("cascade: the width of the rows may change between layers", "[cascade][property]") {
  cascade<float> walk;
  unsigned       layer = 0;
  for (const index_t d : {16, 64, 5}) {
    const auto tokens = make_tokens<float>(kind::clustered, 130, d, 2, layer++);
    REQUIRE(walk.step(tokens.view()) == status::ok);
    CHECK(to_vector(walk.kept().indices) == reference::select<float>(tokens.view(), {}).indices);
  }
}
