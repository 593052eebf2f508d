// What calls and options add to a softmax: sink logits, slopes, a cap and a sliding window. Bit for bit where something
// must not matter.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "attention_fast_math.hpp"
#include "bits.hpp"
#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Modes that grow, and whether slopes go with them.
struct term_mode {
  mode with;
  bool slopes;

  friend std::ostream& operator<<(std::ostream& out, const term_mode& m) { return out << m.with; }
};

const std::vector<term_mode> term_modes = {
    {{"dense", {.keys = key_set::all}}, true},
    {{"dense, softcap", {.keys = key_set::all, .softcap = 2.0f}}, true},
    {{"sliding window", {.keys = key_set::all, .sliding_window = 150}}, false},  // rows of small logits stay so
    {{"sliding window, slopes", {.keys = key_set::all, .sliding_window = 150}}, true},
    {{"sliding window, softcap", {.keys = key_set::all, .softcap = 2.0f, .sliding_window = 530}}, true},
    {{"window", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 3, .softcap = 3.0f}}, true},
    {{"all opened", {.window = 16, .chunk = 32, .open = opening::all}}, true},
    {{"opened, softcap",
      {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8, .softcap = 2.0f}},
     false},
};

term_mode any_term_mode(std::size_t line = __builtin_LINE()) {
  return GENERATE_COPY(from_range(sample(term_modes, line)));
}

const shape terms_shape = {700, 6, 2, 20, 12};

template <class Scalar>
problem<Scalar> with_terms(const term_mode& m) {
  problem<Scalar> p(terms_shape, 3);
  p.sink_logits = {0.5f, -1.0f, 3.0f, 100.0f, -infinity, 0.0f};
  if (m.slopes) p.slopes = {0.5f, 0.01f, 0.0f, 0.125f, 1.0f, 0.002f};
  return p;
}

}  // namespace

TEMPLATE_TEST_CASE("terms: however a sequence is cut into calls, on however many threads", "[attention]", float,
                   bfloat16) {
  const term_mode m = any_term_mode();
  CAPTURE(m);
  const auto                   p        = with_terms<TestType>(m);
  const std::vector<selection> s        = {random_selection(terms_shape.tokens, 0.15, 4)};
  const auto                   expected = attend_and_report<float>(m.with.options, p, p.kv(), s);
  REQUIRE(!expected.out.empty());
  thread_pool<compiled_isa> pool(3);
  const auto threaded = attend_and_report<float>(m.with.options, p, p.kv(), s, {}, test_backend{{&pool}});
  CHECK(same_bits(expected.out, threaded.out));
  CHECK(expected.report == threaded.report);

  const std::vector<std::vector<index_t>> cuts = {{1, 700}, {511, 512, 513, 700}, {333, 334, 340, 580, 581, 690, 700}};
  for (const auto& cut : cuts) {
    attention<TestType, test_backend>       attend(m.with.options);
    attention_state<TestType, test_backend> state;
    head_rows<float>                        out(terms_shape.tokens, terms_shape.heads, terms_shape.value_dim);
    sum_rows                                sums{terms_shape.tokens, terms_shape.heads};
    for (const index_t end : cut)
      REQUIRE(extend_to(end, attend, state, p.q, p.kv(), views(s), out,
                        {.sink_logits = p.sink_logits, .slopes = p.slopes, .log_sum_exp = sums.view()}) == status::ok);
    CHECK(same_bits(out.packed<float>(), expected.out));
    CHECK(same_bits(sums.packed(), expected.log_sum_exp));
  }
}

TEST_CASE("terms: a batch is its sequences", "[attention]") {
  const term_mode m = any_term_mode();
  CAPTURE(m);
  const auto                 p       = with_terms<float>(m);
  const std::vector<index_t> offsets = {0, 130, 130, 131, 700};
  std::vector<selection>     all;
  std::vector<float>         expected, sums;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    all.push_back(random_selection(offsets[i + 1] - offsets[i], 0.3, static_cast<unsigned>(i)));
    problem<float> alone({offsets[i + 1] - offsets[i], terms_shape.heads, terms_shape.kv_heads, terms_shape.key_dim,
                          terms_shape.value_dim},
                         0);
    for (auto [from, to] : {std::pair{&p.q, &alone.q}, std::pair{&p.k, &alone.k}, std::pair{&p.v, &alone.v}}) {
      auto packed = from->packed<float>();
      auto next   = packed.begin() + static_cast<std::ptrdiff_t>(packed.size() / 700) * offsets[i];
      to->fill([&] { return *next++; });
    }
    alone.sink_logits = p.sink_logits, alone.slopes = p.slopes;
    const auto result = attend_and_report<float>(m.with.options, alone, alone.kv(), {all.back()});
    expected.insert(expected.end(), result.out.begin(), result.out.end());
    sums.insert(sums.end(), result.log_sum_exp.begin(), result.log_sum_exp.end());
  }
  const auto result = attend_and_report<float>(m.with.options, p, p.kv(), all, offsets);
  CHECK(same_bits(expected, result.out));
  CHECK(same_bits(sums, result.log_sum_exp));
}

TEMPLATE_TEST_CASE("terms: a sink logit of minus infinity is none, one of NaN is its head's alone", "[attention]",
                   float, bfloat16) {
  const mode m         = GENERATE(from_range(sample(modes)));
  const auto attend_by = GENERATE(
      std::function<attended(const attention_options&, const problem<TestType>&, const std::vector<selection>&)>(
          [](const auto& options, const auto& p, const auto& s) {
            return attend_and_report<float>(options, p, p.kv(), s);
          }),
      std::function<attended(const attention_options&, const problem<TestType>&, const std::vector<selection>&)>(
          [](const auto& options, const auto& p, const auto& s) { return fast_math_attend(options, p, s); }));
  CAPTURE(m);
  const shape                  small = {70, 4, 2, 8, 8};
  problem<TestType>            p(small, 9);
  const std::vector<selection> s    = {random_selection(small.tokens, 0.3, 4)};
  const auto                   none = attend_by(m.options, p, s);
  p.sink_logits                     = {-infinity, -infinity, -infinity, -infinity};
  CHECK(same_bits(none.out, attend_by(m.options, p, s).out));
  // A leaf that opens for one head of a KV group opens for the others: compare with another sink that asks for nothing.
  p.sink_logits       = {-infinity, infinity, -infinity, -infinity};
  const auto infinite = attend_by(m.options, p, s);
  p.sink_logits[1]    = not_a_number;
  const auto odd      = attend_by(m.options, p, s);
  for (index_t t = 0; t < small.tokens; ++t)
    for (index_t h = 0; h < small.heads; ++h)
      for (std::size_t c = 0; c < 8; ++c) {
        const std::size_t i = row_of(small, t, h) + c;
        CAPTURE(t, h, c);
        REQUIRE(is_nan_by_bits(odd.out[i]) == (h == 1));
        if (h == 1)
          REQUIRE(infinite.out[i] == 0);
        else
          REQUIRE(same_bits(odd.out, infinite.out, i, i + 1));
      }
  for (std::size_t i = 0; i < odd.log_sum_exp.size(); ++i) {
    REQUIRE(is_nan_by_bits(odd.log_sum_exp[i]) == (i % 4 == 1));
    if (i % 4 == 1) REQUIRE(infinite.log_sum_exp[i] > 2e38f);
  }
}

TEST_CASE("terms: NaN slopes are their head's alone", "[attention]") {
  const bool  fast  = GENERATE(false, true);  // compiled with -ffast-math
  const shape small = {70, 4, 2, 8, 8};
  CAPTURE(fast);
  problem<float> p(small, 9);
  const auto     run = [&] {
    const attention_options dense = {.keys = key_set::all};
    return fast ? fast_math_attend(dense, p, {}).out : attend(dense, p, {});
  };
  p.slopes          = {0.1f, 0.1f, 0.1f, 0.1f};
  const auto usual  = run();
  p.slopes[2]       = not_a_number;
  const auto result = run();
  REQUIRE(result.size() == usual.size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    REQUIRE(!is_nan_by_bits(usual[i]));
    REQUIRE((i / 8 % 4 == 2 ? is_nan_by_bits(result[i]) : same_bits(result, usual, i, i + 1)));
  }
}

TEST_CASE("terms: a row that sees no keys has its sink", "[attention]") {
  problem<float>                 p({4, 2, 1, 8, 8}, 10);
  attention<float, test_backend> dense({.keys = key_set::all, .causal = false});
  sum_rows                       sums{4, 2};
  head_rows<float>               out(4, 2, 8);
  const index_t                  queries[] = {0, 4}, keys[] = {0, 0};
  const float                    sinks[] = {1.5f, -200.0f};
  REQUIRE(dense(p.q.view(), p.kv(), {}, out.view(),
                {.query_offsets = queries, .key_offsets = keys, .sink_logits = sinks, .log_sum_exp = sums.view()}) ==
          status::ok);
  for (index_t t = 0; t < 4; ++t)
    for (index_t h = 0; h < 2; ++h) {
      CHECK(std::fabs(sums.view().row(t)[h] - sinks[h]) <= 1e-6f * std::fabs(sinks[h]));
      for (index_t c = 0; c < 8; ++c) CHECK(out.view().row(t, h)[c] == 0);
    }
}

TEMPLATE_TEST_CASE("sliding window: what lies before it is not seen, and one of everything is dense", "[attention]",
                   float, bfloat16, float16) {
  constexpr index_t windows[] = {1, 30, 128, 400, 513};
  const index_t     window    = GENERATE_COPY(from_range(sample(windows)));
  CAPTURE(window);
  const problem<TestType> p(terms_shape, 11);
  const attention_options options = {.keys = key_set::all, .sliding_window = window};
  const auto              result  = attend_and_report<float>(options, p, p.kv(), {});
  problem<TestType>       odd     = p;
  const index_t           from = 100, count = 20;
  for (index_t t = from; t < from + count; ++t)
    for (auto* rows : {&odd.k, &odd.v})
      for (index_t c = 0; c < rows->view().dim; ++c) rows->view().row(t, 1)[c] = from_float<TestType>(not_a_number);
  const auto spoilt = attend<float>(options, odd, odd.kv(), {});
  for (index_t t = 0; t < terms_shape.tokens; ++t)
    for (index_t h = 0; h < terms_shape.heads; ++h) {
      CAPTURE(t, h);
      const std::size_t row  = row_of(terms_shape, t, h);
      const bool        sees = h >= 3 && t >= from && t - window < from + count - 1;
      for (std::size_t c = 0; sees && c < 12; ++c) REQUIRE(std::isnan(spoilt[row + c]));
      if (!sees) REQUIRE(same_bits(spoilt, result.out, row, row + 12));
      if (window == 1)
        for (index_t c = 0; c < 12; ++c)
          REQUIRE(std::fabs(result.out[row + static_cast<std::size_t>(c)] - to_float(p.v.view().row(t, h / 3)[c])) <=
                  1e-6f * std::fabs(to_float(p.v.view().row(t, h / 3)[c])));
    }
  std::int64_t keys = 0;
  for (index_t t = 0; t < terms_shape.tokens; ++t) keys += std::min(t + 1, window);
  CHECK(result.report.near_keys == 2 * keys);
  CHECK(result.report.dense_keys == 2 * 700 * 701 / 2);

  const auto dense = attend<float>({.keys = key_set::all}, p, p.kv(), {});
  CHECK(same_bits(dense, attend<float>({.keys = key_set::all, .sliding_window = 700}, p, p.kv(), {})));
  CHECK(same_bits(dense, attend<float>({.keys = key_set::all, .sliding_window = std::numeric_limits<index_t>::max()}, p,
                                       p.kv(), {})));
  CHECK_FALSE(same_bits(dense, attend<float>({.keys = key_set::all, .sliding_window = 699}, p, p.kv(), {})));
}

TEST_CASE("softcap: a cap far above all logits changes little, a small one makes weights alike", "[attention]") {
  const problem<float> p({200, 4, 2, 16, 8}, 12);
  const auto           plain = attend({.keys = key_set::all}, p, {}),
             high            = attend({.keys = key_set::all, .softcap = 1e4f}, p, {});
  const auto low             = attend({.keys = key_set::all, .softcap = 1e-4f}, p, {});
  double     worst = 0, of_mean = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) worst = larger(worst, std::fabs(plain[i] - high[i]));
  for (index_t c = 0; c < 8; ++c) {
    double mean = 0;
    for (index_t t = 0; t < 200; ++t) mean += static_cast<double>(p.v.view().row(t, 0)[c]) / 200;
    of_mean = larger(of_mean, std::fabs(low[row_of(p.size, 199) + static_cast<std::size_t>(c)] - mean));
  }
  CHECK(worst < 1e-5);
  CHECK(of_mean < 1e-3);
}
