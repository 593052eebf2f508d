// merge on the simulated gfx942: the CPU's rows and log-sum-exps within what powers of floats lose, and attention to
// parts of the keys merged into attention to all of them.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "hip/attention_data.hpp"
#include "library/bits.hpp"
#include "library/merge_data.hpp"
#include "library/not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Rows [tokens, heads, dim], one head after the other or one token after the other, with NaN between them, and their
/// log-sum-exps.
template <class Scalar>
struct strewn_rows {
  strewn_rows(index_t tokens, index_t heads, index_t dim, bool heads_first)
      : tokens_(tokens),
        heads_(heads),
        dim_(dim),
        heads_first_(heads_first),
        elements_(static_cast<std::size_t>(tokens * heads * (dim + 3)), from_float<Scalar>(not_a_number)),
        sums_(static_cast<std::size_t>(tokens * (heads + 2)), not_a_number) {}

  heads_view<Scalar> rows() {
    const std::int64_t each = dim_ + 3;
    return {.data         = elements_.data(),
            .tokens       = tokens_,
            .heads        = heads_,
            .dim          = dim_,
            .token_stride = heads_first_ ? each : each * heads_,
            .head_stride  = heads_first_ ? each * tokens_ : each};
  }
  matrix_view<float> sums() { return {sums_.data(), tokens_, heads_, heads_ + 2}; }

  /// Of both kinds some are of sides that saw nothing.
  void fill(std::mt19937& random) {
    std::normal_distribution<float> normal;
    for (index_t t = 0; t < tokens_; ++t)
      for (index_t h = 0; h < heads_; ++h) {
        for (index_t c = 0; c < dim_; ++c) rows().row(t, h)[c] = from_float<Scalar>(normal(random));
        sums().row(t)[h] = random() % 8 == 0 ? -infinity : 10 * normal(random) + 300;
      }
  }

 private:
  index_t             tokens_, heads_, dim_;
  bool                heads_first_;
  std::vector<Scalar> elements_;
  std::vector<float>  sums_;
};

/// From one number to the next, of those as large as x.
template <class Scalar>
float spacing(float x) {
  if constexpr (std::same_as<Scalar, float>) return 0;
  return std::fabs(x) * (std::same_as<Scalar, bfloat16> ? 0x1p-7f : 0x1p-10f) + 0x1p-24f;
}

template <class First, class Second, class Out>
void check_as_on_the_cpu(index_t tokens, index_t heads, index_t dim, unsigned seed) {
  std::mt19937        random(seed);
  strewn_rows<First>  first(tokens, heads, dim, false);
  strewn_rows<Second> second(tokens, heads, dim, true);
  strewn_rows<Out>    ours(tokens, heads, dim, true), on_cpu(tokens, heads, dim, false);
  first.fill(random), second.fill(random);
  REQUIRE(merge(first.rows(), first.sums(), second.rows(), second.sums(), ours.rows(), ours.sums(),
                simulator::seeded(seed)) == status::ok);
  REQUIRE(merge(first.rows(), first.sums(), second.rows(), second.sums(), on_cpu.rows(), on_cpu.sums()) == status::ok);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t h = 0; h < heads; ++h) {
      CAPTURE(t, h);
      const float want = on_cpu.sums().row(t)[h], sum = ours.sums().row(t)[h];
      const bool  one = first.sums().row(t)[h] == -infinity || second.sums().row(t)[h] == -infinity;
      REQUIRE((one ? alike(sum, want) : std::fabs(sum - want) <= 0x1p-21f + 0x1p-23f * std::fabs(want)));
      for (index_t c = 0; c < dim; ++c) {
        const float mine = to_float(ours.rows().row(t, h)[c]), its = to_float(on_cpu.rows().row(t, h)[c]);
        const float both =
            std::fabs(to_float(first.rows().row(t, h)[c])) + std::fabs(to_float(second.rows().row(t, h)[c]));
        REQUIRE((one ? alike(mine, its) : std::fabs(mine - its) <= 0x1p-21f * both + spacing<Out>(its)));
      }
    }
  for (index_t t = 0; t < tokens; ++t)  // nothing beside
    for (index_t h = 0; h < heads; ++h)
      for (index_t c = dim; c < dim + 3; ++c) REQUIRE(is_nan_by_bits(to_float(ours.rows().row(t, h)[c])));
}

/// All queries against tokens [begin, end), and their log-sum-exps.
struct partial {
  device_heads<float> out;
  std::vector<float>  sums;

  partial(index_t tokens, index_t heads, index_t dim)
      : out(tokens, heads, dim), sums(static_cast<std::size_t>(tokens * heads), not_a_number) {}
  matrix_view<float> log_sums() { return {sums.data(), out.view().tokens, out.view().heads, out.view().heads}; }
};

template <class Scalar>
partial attend_part(device_heads<Scalar>& q, const problem<Scalar>& p, index_t begin, index_t end, bool causal,
                    simulator::stream where) {
  device_heads<Scalar> k(tests::rows_of(p.k.view(), begin, end)), v(tests::rows_of(p.v.view(), begin, end));
  partial              part(q.view().tokens, p.size.heads, p.size.value_dim);
  attention<Scalar, simulator::stream> attend({.keys = key_set::all, .causal = causal}, where);
  REQUIRE(attend(q.view(), strided_kv<Scalar>{k.view(), v.view()}, part.out.view(), {.log_sum_exp = part.log_sums()}) ==
          status::ok);
  return part;
}

}  // namespace

TEST_CASE("hip merge: as on the CPU, for rows of every type, width and order", "[hip]") {
  const index_t dim = GENERATE(1, 5, 63, 64, 65, 200);
  CAPTURE(dim);
  check_as_on_the_cpu<float, float, float>(7, 3, dim, 1);
  check_as_on_the_cpu<bfloat16, float, float>(7, 3, dim, 2);
  check_as_on_the_cpu<float, float16, bfloat16>(7, 3, dim, 3);
  check_as_on_the_cpu<float16, bfloat16, float16>(7, 3, dim, 4);
  check_as_on_the_cpu<bfloat16, bfloat16, bfloat16>(7, 3, dim, 5);
}

TEST_CASE("hip merge: more rows than blocks that are side by side", "[hip]") {
  constexpr index_t blocks = hip::attention::merge_rows<float, float, float>::most_blocks;
  check_as_on_the_cpu<float, float, float>(2 * blocks / 7 + 30, 7, 1, 6);
}

TEMPLATE_TEST_CASE("hip merge: attention to parts of the keys is attention to all of them", "[hip]", ROW_TYPES) {
  constexpr index_t T = 190, asking = 40, before = T - asking;
  const shape       size   = {T, 4, 2, 64, 64};
  const bool        causal = GENERATE(false, true);
  const index_t     parts  = GENERATE(2, 3);
  CAPTURE(causal, parts);
  const problem<TestType> p(size, 3);
  const simulator::stream where = simulator::seeded(4);
  device_heads<TestType>  q(tests::rows_of(p.q.view(), before, T));
  const index_t           end = causal ? before : T;  // of the parts; the tail apart
  auto                    sum = attend_part(q, p, 0, end / parts, false, where);
  const auto              add = [&](partial more) {
    REQUIRE(merge(sum.out.view(), sum.log_sums(), more.out.view(), more.log_sums(), sum.out.view(), sum.log_sums(),
                               where) == status::ok);
  };
  for (index_t i = 1; i < parts; ++i)
    add(attend_part(q, p, end / parts * i, i + 1 == parts ? end : end / parts * (i + 1), false, where));
  if (causal) add(attend_part(q, p, before, T, true, where));

  auto       whole = attend_part(q, p, 0, T, causal, where);
  const auto exact = reference::attention(p.template input<double>(), {}, {.keys = key_set::all, .causal = causal});
  const auto ours = sum.out.packed(), at_once = whole.out.packed();
  double     worst = 0, of_whole = 0, largest = 0;
  for (std::size_t i = 0, from = row_of(size, before); i < ours.size(); ++i) {
    worst    = larger(worst, std::fabs(ours[i] - exact.out[from + i]));
    of_whole = larger(of_whole, std::fabs(at_once[i] - exact.out[from + i]));
    largest  = larger(largest, std::fabs(exact.out[from + i]));
  }
  double of_sums = 0, of_whole_sums = 0;
  for (std::size_t i = 0, from = static_cast<std::size_t>(before * size.heads); i < sum.sums.size(); ++i) {
    of_sums       = larger(of_sums, std::fabs(sum.sums[i] - exact.log_sum_exp[from + i]));
    of_whole_sums = larger(of_whole_sums, std::fabs(whole.sums[i] - exact.log_sum_exp[from + i]));
  }
  CAPTURE(worst, of_whole, of_sums, of_whole_sums);
  CHECK(worst <= 2 * of_whole + 4 * 0x1p-23 * largest);  // one call is the plain way
  CHECK(of_sums <= 2 * of_whole_sums + 4 * 0x1p-23 * 10);
}

TEST_CASE("hip merge: a side that saw nothing, and NaN", "[hip]") {
  const auto merge_by = [](const std::vector<float>& first, const float& first_lse, const std::vector<float>& second,
                           const float& second_lse, std::vector<float>& out, float& lse) {
    const auto row = [&](auto& of) { return packed_heads(of.data(), 1, 1, static_cast<index_t>(of.size())); };
    REQUIRE(merge(row(first), {&first_lse, 1, 1, 1}, row(second), {&second_lse, 1, 1, 1}, row(out), {&lse, 1, 1, 1},
                  simulator::seeded(7)) == status::ok);
  };
  for (const index_t dim : {1, 70}) check_merge_cases(dim, merge_by);
}

// A wave's lanes run in any order here: what one of them writes must not be what another still has to read.
TEST_CASE("hip merge: where either side lies", "[hip]") {
  constexpr index_t T = 40, heads = 3, dim = 70;
  const unsigned    seed = GENERATE(1u, 2u, 3u);
  std::mt19937      random(seed);
  using rows_with_sums = strewn_rows<float>;
  rows_with_sums first(T, heads, dim, false), second(T, heads, dim, false), apart(T, heads, dim, false);
  first.fill(random), second.fill(random);
  rows_with_sums in_first = first, in_second = second;
  const auto     where = simulator::seeded(seed);
  REQUIRE(merge(first.rows(), first.sums(), second.rows(), second.sums(), apart.rows(), apart.sums(), where) ==
          status::ok);
  REQUIRE(merge(in_first.rows(), in_first.sums(), second.rows(), second.sums(), in_first.rows(), in_first.sums(),
                where) == status::ok);
  REQUIRE(merge(first.rows(), first.sums(), in_second.rows(), in_second.sums(), in_second.rows(), in_second.sums(),
                where) == status::ok);
  for (rows_with_sums* const one : {&in_first, &in_second})
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < heads; ++h) {
        CAPTURE(t, h);
        REQUIRE(alike(one->sums().row(t)[h], apart.sums().row(t)[h]));
        for (index_t c = 0; c < dim; ++c) REQUIRE(alike(one->rows().row(t, h)[c], apart.rows().row(t, h)[c]));
      }
}

TEST_CASE("hip merge: one launch, which a graph may hold, and no memory", "[hip]") {
  constexpr index_t  T = 5, heads = 2, dim = 64;
  std::mt19937       random(3);
  strewn_rows<float> first(T, heads, dim, false), second(T, heads, dim, false), out(T, heads, dim, false);
  const auto         where = simulator::capturable(3);
  const auto         step  = simulator::capture(where, [&] {
    REQUIRE(merge(first.rows(), first.sums(), second.rows(), second.sums(), out.rows(), out.sums(), where) ==
                     status::ok);
  });
  CHECK(where.calls->launches == 1);
  CHECK(where.calls->allocations == 0);
  CHECK(where.calls->waits == 0);
  for (int turn = 0; turn < 2; ++turn) {
    first.fill(random), second.fill(random);
    strewn_rows<float> want(T, heads, dim, false);
    REQUIRE(merge(first.rows(), first.sums(), second.rows(), second.sums(), want.rows(), {}, where) == status::ok);
    step.replay();
    for (index_t t = 0; t < T; ++t)
      for (index_t c = 0; c < dim; ++c) REQUIRE(out.rows().row(t, 1)[c] == want.rows().row(t, 1)[c]);
    CHECK(is_nan_by_bits(want.sums().row(0)[0]));  // not wanted
  }
}

TEST_CASE("hip merge: what is refused, as on the CPU, puts nothing on the stream", "[hip]") {
  const simulator::stream where;
  const auto              run = [&](const merge_arguments& a) {
    return merge(a.first, a.first_lse, a.second, a.second_lse, a.out, a.log_sum_exp, where);
  };
  check_merge_refusals(run);
  merge_arguments empty;
  empty.first.tokens = empty.second.tokens = empty.out.tokens = 0;
  empty.first_lse.rows = empty.second_lse.rows = empty.log_sum_exp.rows = 0;
  CHECK(run(empty) == status::ok);
  CHECK(where.calls->launches == 0);
  merge_arguments right;
  CHECK(run(right) == status::ok);
  CHECK(right.to == right.rows);
}
