// The same sets whatever arithmetic the host has turned on, on the calling thread or on workers; and no exceptions of
// floating point where all results are finite.

#include <algorithm>
#include <cfenv>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "host_mode.hpp"
#include "near_threshold.hpp"
#include "sample.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

using pool = thread_pool<compiled_isa>;

/// What a host might do with layers of tokens, in any arithmetic. The sets do not depend on it.
struct every_path {
  std::vector<std::vector<index_t>> reps;
  bool                              ok = true;

  every_path(matrix_view<const float> x, selection_options options, pool* threads) {
    const default_backend where{.executor = {threads}};
    const auto            state = random_state(x.rows, 3);
    for (const prefilter filter : all_filters) {
      options.filter = filter;
      selector<float> select(options, where);
      ok &= select(x) == status::ok;
      reps.push_back(to_vector(select.kept().rep));
    }
    selector<float> literal(options, where);
    ok &= literal.literal(x) == status::ok;
    reps.push_back(to_vector(literal.kept().rep));
    growing_selection<float> grow(options, where);
    auto                     piece = x;
    for (index_t begin = 0; begin < x.rows; begin += piece.rows) {
      piece.data = x.row(begin), piece.rows = std::min(x.rows - begin, 57);
      ok &= grow.extend(piece) == status::ok;
    }
    reps.push_back(to_vector(grow.kept().rep));
    for (const auto validate : {validation::exact, validation::cross_gram}) {
      options.validate = validate;
      cascade<float> walk(options, where);
      ok &= walk.inherit(state.view()) == status::ok && walk.step(x) == status::ok;
      reps.push_back(to_vector(walk.kept().rep));
    }
  }
};

/// Rows whose products are subnormal, and cover each other if those are kept.
token_rows<float> subnormal_products(index_t T, index_t d) {
  token_rows<float> rows(T, d);
  for (index_t i = 0; i < T; ++i)
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == i % 2 ? 0x1p-30f : c == 1 - i % 2 && i > 1 ? 0x1p-110f : 0.0f);
  return rows;
}

}  // namespace

TEST_CASE("float environment: the same sets in any mode of the host", "[float_environment][property]") {
  const auto assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto d      = GENERATE(2, 33, 64, 257);
  const auto data   = GENERATE(0, 1, 2);
  const auto tokens = data == 0   ? near_threshold(150, d, 0.8f, 1).rows
                      : data == 1 ? make_tokens<float>(kind::tiny_and_huge, 80, d, 1)
                                  : subnormal_products(40, d);
  CAPTURE(assign, d, data);
  const selection_options options{.threshold = data == 2 ? 0x1p-90f : 0.8f, .assign = assign};
  pool                    alone(1);
  const every_path        expected(tokens.view(), options, &alone);
  REQUIRE(expected.ok);
  CHECK(expected.reps[0] == reference::select<float>(tokens.view(), options).rep);

  for (const auto& [name, mode] : sample(host_modes))
    for (const auto& [on_caller, on_workers] :
         {std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
      CAPTURE(name, on_caller, on_workers);
      std::unique_ptr<pool> threads;
      {
        const host_mode of_workers(on_workers ? mode : control());
        threads = std::make_unique<pool>(3);  // new threads have the arithmetic of the one that makes them
      }
      const host_mode  of_caller(on_caller ? mode : control());
      const auto       before = control();
      const every_path got(tokens.view(), options, threads.get());
      CHECK(control() == before);
      CHECK(got.ok);
      CHECK(got.reps == expected.reps);
    }
}

TEST_CASE("float environment: the cases tell subnormals from zero", "[float_environment]") {
  const auto tokens = subnormal_products(40, 2);
  CHECK(reference::select<float>(tokens.view(), {.threshold = 0x1p-90f}).indices == std::vector<index_t>{0, 1});
}

TEST_CASE("float environment: a refused call leaves the host's mode too", "[float_environment][errors]") {
  auto tokens = make_tokens<float>(kind::random, 40, 8, 1);
  tokens.set(30, 3, std::numeric_limits<float>::quiet_NaN());
  for (const auto& [name, mode] : host_modes) {
    CAPTURE(name);
    const host_mode of_caller(mode);
    const auto      before = control();
    selector<float> select;
    CHECK(select(std::as_const(tokens).view()) == status::non_finite_token);
    CHECK(control() == before);
  }
}

// Sentinels that take part in arithmetic would show here.
TEST_CASE("float environment: finite tokens raise nothing", "[float_environment][property]") {
  const auto    d      = GENERATE(1, 8, 33, 128);
  const auto    assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const float   tau    = GENERATE(0x1p-90f, 0.5f, 1.0f);
  const index_t T      = 100;
  CAPTURE(d, assign, tau);
  // Zero rows, tiny ones, and norms up to the largest whose square is finite.
  const float scales[] = {0.0f, 0x1p-149f, 0x1.fp-31f, 0x1p-29f, 1.0f, 0x1p40f, 0x1.8p62f, 0x1.fffffep63f};
  pool        alone(1);
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::mt19937      random(seed);
    token_rows<float> rows(T, d);
    for (index_t i = 0; i < T; ++i) {
      const float scale = seed == 0 ? 0.0f : scales[random() % 8];
      for (index_t c = 0; c < d; ++c) rows.set(i, c, 0.0f);
      // One element, or several: a norm at the end of the range takes one.
      for (index_t c = 0; c < (scale < 0x1p62f ? d : 1); ++c)
        rows.set(i, (c + static_cast<index_t>(random() % 2)) % d, random() % 2 ? scale : -scale);
    }
    const auto x        = std::as_const(rows).view();
    const auto expected = reference::select<float>(x, {.threshold = tau, .assign = assign});
    std::feclearexcept(FE_ALL_EXCEPT);
    const every_path got(x, {.threshold = tau, .assign = assign}, &alone);
    CHECK(std::fetestexcept(FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO) == 0);
    CHECK(got.ok);
    CHECK(got.reps[0] == expected.rep);
  }
}

#ifdef __x86_64__
TEST_CASE("float environment: a host that traps is not interrupted", "[float_environment][errors]") {
  constexpr int traps = FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO;
  auto          zeros = make_tokens<float>(kind::zero_rows, 150, 40, 1), broken = zeros, large = zeros;
  broken.set(70, 2, std::numeric_limits<float>::infinity());
  large.set(70, 2, 1e30f);  // its square overflows
  std::feclearexcept(FE_ALL_EXCEPT);
  REQUIRE(feenableexcept(traps) != -1);
  pool            threads(3);  // its workers trap as well
  selector<float> select({}, {.executor = {&threads}});
  const status    of_zeros = select(std::as_const(zeros).view()), of_broken = select(std::as_const(broken).view()),
               of_large = select(std::as_const(large).view());
  const int left = fedisableexcept(traps), flags = std::fetestexcept(traps);
  CHECK(of_zeros == status::ok);
  CHECK(of_broken == status::non_finite_token);
  CHECK(of_large == status::non_finite_token);
  CHECK(left == traps);
  CHECK(flags == 0);
}
#endif
