// Log-sum-exps, and attention to parts of the keys merged into attention to all of them.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "attention_fast_math.hpp"
#include "bits.hpp"
#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "merge_data.hpp"
#include "not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Results of the same queries for some of the keys.
template <class Out>
struct partial {
  head_rows<Out> out;
  sum_rows       sums;

  explicit partial(const shape& s) : out(s.tokens, s.heads, s.value_dim), sums{s.tokens, s.heads} {}
};

/// Keys and values of tokens [begin, end).
template <class Scalar>
strided_kv<Scalar> keys_of(const problem<Scalar>& p, index_t begin, index_t end) {
  return {rows_of(p.k.view(), begin, end), rows_of(p.v.view(), begin, end)};
}

/// All queries against tokens [begin, end): those before the queries, or the tail that they are themselves.
template <class Out, class Scalar, cpu_backend B>
partial<Out> attend_part(const problem<Scalar>& queries, const problem<Scalar>& keys, index_t begin, index_t end,
                         bool causal, B where) {
  partial<Out>         result(queries.size);
  attention<Scalar, B> attend({.keys = key_set::all, .causal = causal}, where);
  REQUIRE(attend(queries.q.view(), keys_of(keys, begin, end), {}, result.out.view(),
                 {.log_sum_exp = result.sums.view()}) == status::ok);
  return result;
}

template <class Out>
void merge_into(partial<Out>& sum, const partial<Out>& more_of) {
  partial<Out> more = more_of;
  REQUIRE(merge(sum.out.view(), sum.sums.view(), more.out.view(), more.sums.view(), sum.out.view(), sum.sums.view()) ==
          status::ok);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("merge: attention to 2 to 4 parts of the keys is attention to all of them", "[attention]",
                        product_backends) {
  constexpr index_t some[] = {2, 3, 4}, asking = 40;
  const bool        causal = GENERATE(false, true);
  const index_t     parts  = GENERATE_COPY(from_range(sample(some)));
  const shape       size   = {kernel::attention::block_keys<TestType> + 90, 6, 2, 24, 20};
  CAPTURE(causal, parts);
  const auto check = [&]<class Scalar>(Scalar) {
    const problem<Scalar> p(size, 3);
    problem<Scalar>       last({asking, size.heads, size.kv_heads, size.key_dim, size.value_dim}, 4);
    for (index_t t = 0; t < asking; ++t)
      for (index_t h = 0; h < size.heads; ++h)
        std::copy_n(p.q.view().row(size.tokens - asking + t, h), size.key_dim, last.q.view().row(t, h));
    const index_t before = size.tokens - asking, end = causal ? before : size.tokens;  // of the parts; the tail apart
    auto          sum = attend_part<float>(last, p, 0, end / parts, false, TestType());
    for (index_t i = 1; i < parts; ++i)
      merge_into(sum, attend_part<float>(last, p, end / parts * i, i + 1 == parts ? end : end / parts * (i + 1), false,
                                         TestType()));
    if (causal) merge_into(sum, attend_part<float>(last, p, before, size.tokens, true, TestType()));

    const auto   whole = attend_part<float>(last, p, 0, size.tokens, causal, TestType());
    const auto   exact = reference::attention(p.template input<double>(), {}, {.keys = key_set::all, .causal = causal});
    const auto   ours = sum.out.template packed<float>(), at_once = whole.out.template packed<float>();
    const double eps   = std::numeric_limits<float>::epsilon();
    double       worst = 0, of_whole = 0, largest = 0, of_sums = 0, of_whole_sums = 0;
    for (std::size_t i = 0, from = row_of(size, before); i < ours.size(); ++i) {
      worst    = larger(worst, std::fabs(ours[i] - exact.out[from + i]));
      of_whole = larger(of_whole, std::fabs(at_once[i] - exact.out[from + i]));
      largest  = larger(largest, std::fabs(exact.out[from + i]));
    }
    auto sums = sum.sums.packed(), whole_sums = partial<float>(whole).sums.packed();
    for (std::size_t i = 0, from = static_cast<std::size_t>(before * size.heads); i < sums.size(); ++i) {
      of_sums       = larger(of_sums, std::fabs(sums[i] - exact.log_sum_exp[from + i]));
      of_whole_sums = larger(of_whole_sums, std::fabs(whole_sums[i] - exact.log_sum_exp[from + i]));
    }
    CAPTURE(worst, of_whole, of_sums, of_whole_sums);
    CHECK(worst <= 2 * of_whole + 4 * eps * largest);  // the rule of attention.cpp: one call is the plain way
    CHECK(of_sums <= 2 * of_whole_sums + 4 * eps * 10);
  };
  check(bfloat16());
  if constexpr (std::same_as<TestType, test_backend>)
    check(float()), check(float16());  // one kind of product for these
}

TEST_CASE("merge: as the reference does, for every width of row and type", "[attention]") {
  const index_t T = 7, heads = 3, dim = GENERATE(1, 5, 8, 16, 33, 128);
  CAPTURE(dim);
  std::mt19937                    random(5);
  std::normal_distribution<float> normal;
  const auto                      check = [&]<class First, class Second, class Out>(First, Second, Out) {
    head_rows<First>  first(T, heads, dim);
    head_rows<Second> second(T, heads, dim);
    head_rows<Out>    out(T, heads, dim);
    sum_rows          sums[3] = {{T, heads}, {T, heads}, {T, heads}};
    first.fill([&] { return normal(random); });
    second.fill([&] { return normal(random); });
    for (int side = 0; side < 2; ++side)
      for (index_t t = 0; t < T; ++t)
        for (index_t h = 0; h < heads; ++h) sums[side].view().row(t)[h] = 10 * normal(random) + 300;
    REQUIRE(merge(first.view(), sums[0].view(), second.view(), sums[1].view(), out.view(), sums[2].view()) ==
                                 status::ok);
    const auto as_double = [](const std::vector<float>& all) { return std::vector<double>(all.begin(), all.end()); };
    std::vector<double> expected(static_cast<std::size_t>(T * heads * dim)), lse(static_cast<std::size_t>(T * heads));
    reference::merge(first.template packed<double>(), as_double(sums[0].packed()), second.template packed<double>(),
                                          as_double(sums[1].packed()), dim, expected, lse);
    const auto ours = out.template packed<double>();
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const double rounding = std::fabs(expected[i] - to_float(from_float<Out>(static_cast<float>(expected[i]))));
      REQUIRE(std::fabs(ours[i] - expected[i]) <= 2 * rounding + 1e-6);
    }
    for (std::size_t i = 0; i < lse.size(); ++i) REQUIRE(std::fabs(sums[2].packed()[i] - lse[i]) <= 300 * 0x1p-23);
  };
  check(float(), float(), float());
  check(bfloat16(), float(), float());
  check(float16(), bfloat16(), float16());
  check(bfloat16(), bfloat16(), bfloat16());
}

TEST_CASE("merge: a side that saw nothing, and NaN", "[attention]") {
  const auto merge_by = GENERATE(&fast_math_merge, &strict_merge<test_backend>);
  for (const index_t dim : {1, 40}) check_merge_cases(dim, merge_by);
}

TEST_CASE("merge: every refusal has a sentence of its own, and nothing is written", "[errors]") {
  const auto run = [](const merge_arguments& a) {
    return merge(a.first, a.first_lse, a.second, a.second_lse, a.out, a.log_sum_exp);
  };
  merge_arguments right;
  CHECK(run(right) == status::ok);
  CHECK(right.to == right.rows);
  right.log_sum_exp = {};  // not wanted
  CHECK(run(right) == status::ok);
  check_merge_refusals(run);
}

TEST_CASE("log-sum-exp: a growing sequence, a batch and a row that sees nothing", "[attention]") {
  const auto all = modes_that_grow();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const problem<float>                 p({150, 4, 2, 16, 12}, 6);
  const std::vector<selection>         s        = {random_selection(150, 0.2, 7)};
  const auto                           expected = attend_and_report<float>(m.options, p, p.kv(), s);
  attention<float, test_backend>       attend(m.options);
  attention_state<float, test_backend> state;
  sum_rows                             sums{150, 4};
  head_rows<float>                     out(150, 4, 12);
  for (index_t begin = 0, end = 0; begin < 150; begin = end) {
    end = std::min(150, begin + 1 + begin / 2);
    REQUIRE(extend_to(end, attend, state, p.q, p.kv(), views(s), out, {.log_sum_exp = sums.view()}) == status::ok);
  }
  CHECK(same_bits(sums.packed(), expected.log_sum_exp));

  // No keys: zeros, and minus infinity.
  attention<float, test_backend> dense({.keys = key_set::all, .causal = false});
  const index_t                  keys[] = {0, 0, 150}, queries[] = {0, 50, 150};
  REQUIRE(dense(p.q.view(), p.kv(), {}, out.view(),
                {.query_offsets = queries, .key_offsets = keys, .log_sum_exp = sums.view()}) == status::ok);
  for (index_t t = 0; t < 150; ++t)
    for (index_t h = 0; h < 4; ++h) {
      CHECK((sums.view().row(t)[h] == -infinity) == (t < 50));
      if (t < 50) CHECK(out.view().row(t, h)[0] == 0);
    }
}
