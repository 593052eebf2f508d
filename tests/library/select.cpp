// Full selection: the properties of its definition, against the reference, on every kind of tokens and block edge.

#include <utility>
#include <vector>

#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "sample.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

kind any_kind(std::size_t line = __builtin_LINE()) { return GENERATE_COPY(from_range(sample(all_kinds, line))); }

void check_same(const representatives& ours, const representatives& expected) {
  CHECK(to_vector(ours.indices) == to_vector(expected.indices));
  CHECK(to_vector(ours.rep) == to_vector(expected.rep));
  CHECK(to_vector(ours.counts) == to_vector(expected.counts));
}

}  // namespace

TEST_CASE("select: cover, packing and order", "[select][property]") {
  const auto  k   = any_kind();
  const auto  T   = GENERATE(1, 2, 17, 63, 64, 65, 150);
  const auto  d   = GENERATE(1, 3, 16, 33);
  const float tau = GENERATE(0.05f, 0.8f, 0.99f, 1.0f);
  CAPTURE(k, T, d, tau);
  const auto      tokens = make_tokens<float>(k, T, d, 11);
  const auto      x      = tokens.view();
  selector<float> select({.threshold = tau});
  REQUIRE(select(x) == status::ok);

  const representatives kept = select.kept();
  REQUIRE(check(kept, T) == status::ok);
  for (index_t i = 0; i < T; ++i) {
    const index_t rep = kept.rep[static_cast<std::size_t>(i)];
    CHECK(rep <= i);
    if (rep != i) CHECK(reference::covered(x, tau, i, rep));
  }
  bool packed = true;
  for (index_t a = 0; a < kept.count(); ++a)
    for (index_t b = 0; b < a; ++b)
      packed &= !reference::covered(x, tau, kept.indices[static_cast<std::size_t>(a)],
                                    kept.indices[static_cast<std::size_t>(b)]);
  CHECK(packed);
}

TEMPLATE_TEST_CASE("select: blocked, literal and reference agree", "[select][property]", float, bfloat16) {
  const auto  k      = any_kind();
  const auto  T      = GENERATE(1, 2, 65, 200);
  const auto  d      = GENERATE(1, 15, 48, 65);
  const float tau    = GENERATE(0.3f, 0.8f, 1.0f);
  const auto  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  CAPTURE(k, T, d, tau, assign);
  const auto        tokens = make_tokens<TestType>(k, T, d, 3);
  selection_options options{.threshold = tau, .assign = assign};
  const auto        expected = reference::select<TestType>(tokens.view(), options);

  selector<TestType> literal(options);
  REQUIRE(literal.literal(tokens.view()) == status::ok);
  check_same(literal.kept(), expected.view());
  CHECK(literal.report().gram.total() == full_gram_operations(T));
  CHECK(literal.report().savings() == 0);

  for (const prefilter filter : all_filters) {
    CAPTURE(filter);
    options.filter = filter;
    selector<TestType> select(options);
    REQUIRE(select(tokens.view()) == status::ok);
    check_same(select.kept(), expected.view());
    CHECK(select.report().gram == expected.report.gram);
    CHECK(select.report().representatives == expected.report.representatives);
    CHECK(select.report().pairs_evaluated >= select.report().gram.total());
    CHECK(!select.report().jaccard);
  }
}

TEST_CASE("select: the set of a prefix is the prefix of the set", "[select][property]") {
  const auto k = any_kind();
  const auto n = GENERATE(0, 1, 63, 64, 65, 100, 199);
  CAPTURE(k, n);
  const auto      tokens = make_tokens<float>(k, 200, 24, 5);
  selector<float> whole({.threshold = 0.7f}), prefix({.threshold = 0.7f});
  auto            cut = tokens.view();
  cut.rows            = n;
  REQUIRE(whole(tokens.view()) == status::ok);
  REQUIRE(prefix(cut) == status::ok);
  std::vector<index_t> expected;
  for (const index_t i : whole.kept().indices)
    if (i < n) expected.push_back(i);
  CHECK(to_vector(prefix.kept().indices) == expected);
  CHECK(to_vector(prefix.kept().rep) == to_vector(whole.kept().rep.first(static_cast<std::size_t>(n))));
}

TEST_CASE("select: a bfloat16 row counts as the float row of the same values", "[select][property]") {
  const auto        tokens = make_tokens<bfloat16>(kind::clustered, 180, 40, 9);
  token_rows<float> widened(180, 40);
  for (index_t i = 0; i < 180; ++i)
    for (index_t c = 0; c < 40; ++c) widened.set(i, c, tokens.get(i, c));
  selector<bfloat16> narrow;
  selector<float>    wide;
  REQUIRE(narrow(tokens.view()) == status::ok);
  REQUIRE(wide(std::as_const(widened).view()) == status::ok);
  check_same(narrow.kept(), wide.kept());
}

TEST_CASE("select: stretches, blocks and growing sketches at full length", "[select][property]") {
  const auto  k      = GENERATE(kind::clustered, kind::random);
  const float tau    = GENERATE(0.5f, 0.8f);
  const auto  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  CAPTURE(k, tau, assign);
  const auto      tokens = make_tokens<float>(k, 1100, 96, 13);
  selector<float> plain({.threshold = tau, .assign = assign, .filter = prefilter::none});
  REQUIRE(plain(tokens.view()) == status::ok);
  if (default_backend::has_fma) CHECK(plain.report().pairs_rechecked == 0);
  for (const prefilter filter : all_filters) {
    CAPTURE(filter);
    selector<float> select({.threshold = tau, .assign = assign, .filter = filter});
    REQUIRE(select(tokens.view()) == status::ok);
    check_same(select.kept(), plain.kept());
    CHECK(select.report().gram == plain.report().gram);
  }
}

TEST_CASE("select: the number of threads changes nothing, counters included", "[select][property][threads]") {
  const auto assign  = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto threads = GENERATE(2, 5);
  CAPTURE(assign, threads);
  const auto tokens = make_tokens<float>(kind::clustered, 500, 32, 21);
  const auto filter = GENERATE(from_range(std::begin(all_filters), std::end(all_filters)));
  CAPTURE(filter);
  const selection_options                             options{.assign = assign, .filter = filter};
  thread_pool<compiled_isa>                           pool(threads);
  selector<float>                                     pooled(options, {.executor = {&pool}});
  selector<float, cpu<compiled_isa, serial_executor>> serial(options);
  REQUIRE(pooled(tokens.view()) == status::ok);
  REQUIRE(serial(tokens.view()) == status::ok);
  check_same(pooled.kept(), serial.kept());
  CHECK(pooled.report().gram == serial.report().gram);
}

TEST_CASE("select: one object serves shapes that grow and shrink", "[select][property]") {
  selector<float> select;
  for (const index_t T : {30, 200, 7, 0, 65})
    for (const index_t d : {8, 70, 3}) {
      CAPTURE(T, d);
      const auto tokens = make_tokens<float>(kind::clustered, T, d, 2);
      REQUIRE(select(tokens.view()) == status::ok);
      check_same(select.kept(), reference::select<float>(tokens.view(), {}).view());
    }
}
