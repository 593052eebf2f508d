// NaN, infinity, and logits at the ends of the range of floats: by every kind of product, compiled with -ffast-math and
// without.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <ostream>
#include <random>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "attention_fast_math.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// How a call is compiled and multiplied.
template <row_scalar Scalar>
struct way {
  using call = std::function<attended(const attention_options&, const problem<Scalar>&, const std::vector<selection>&)>;

  const char* name;
  bool        pairs;
  call        attend;

  friend std::ostream& operator<<(std::ostream& out, const way& w) { return out << w.name; }
};

template <row_scalar Scalar, cpu_backend B>
attended strict(const attention_options& options, const problem<Scalar>& p, const std::vector<selection>& selections) {
  return attend_and_report<float>(options, p, p.kv(), selections, {}, B());
}

template <row_scalar Scalar>
std::vector<way<Scalar>> ways() {
  using call           = attended (*)(const attention_options&, const problem<Scalar>&, const std::vector<selection>&);
  constexpr bool pairs = kernel::multiplies_pairs<test_backend>;
  if constexpr (std::same_as<Scalar, float>) {
    return {{"floats", false, strict<float, test_backend>},
            {"floats, -ffast-math", false, static_cast<call>(fast_math_attend)}};
  } else {
    using vectors = backend_without<isa::amx_bf16>;
    using floats  = backend_without<isa::amx_bf16 | isa::avx512_bf16>;
    return {{"bfloat16", pairs, strict<bfloat16, test_backend>},
            {"bfloat16, vectors", pairs, strict<bfloat16, vectors>},
            {"bfloat16, floats", false, strict<bfloat16, floats>},
            {"bfloat16, -ffast-math", pairs, static_cast<call>(fast_math_attend)},
            {"bfloat16, floats, -ffast-math", false, fast_math_attend_by_floats}};
  }
}

const std::vector<mode> token_modes = {
    // whose rows are those of dense attention where clusters are of duplicates
    {"dense", {.keys = key_set::all}},
    {"window", {.keys = key_set::near, .window = 16, .chunk = 32}},
    {"closed", {.window = 16, .chunk = 32, .open = opening::none}},
    {"closed, by order", {.window = 16, .chunk = 32, .leaves = leaf_formation::by_order, .open = opening::none}},
    {"grouped", {.queries = query_set::grouped, .window = 16, .chunk = 32, .open = opening::none}},
    {"opened", {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8}},
    {"all opened", {.window = 16, .chunk = 32, .open = opening::all}},
};

/// And others, in which NaN has its way.
std::vector<mode> odd_modes() {
  std::vector<mode> all = token_modes;
  all.push_back({"sliding window", {.keys = key_set::all, .sliding_window = 23}});
  all.push_back({"sliding window, softcap", {.keys = key_set::all, .softcap = 2.0f, .sliding_window = 23}});
  all.push_back({"opened, softcap",
                 {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8, .softcap = 3.0f}});
  return all;
}

mode any_token_mode() { return GENERATE(from_range(token_modes.begin(), token_modes.end())); }

/// The token whose query asks the far field for token t.
index_t asking(const attention_options& options, const selection& s, index_t t) {
  if (options.queries != query_set::grouped) return t;
  index_t first = t / options.chunk * options.chunk;
  while (s.rep[static_cast<std::size_t>(first)] != s.rep[static_cast<std::size_t>(t)]) ++first;
  return first;
}

/// Queries, keys and values of a token are those of its representative.
template <row_scalar Scalar>
void duplicate(problem<Scalar>& p, const selection& s) {
  for (auto* rows : {&p.q, &p.k, &p.v}) {
    const auto view = rows->view();
    for (index_t t = 0; t < view.tokens; ++t)
      for (index_t h = 0; h < view.heads; ++h)
        std::copy_n(view.row(s.rep[static_cast<std::size_t>(t)], h), view.dim, view.row(t, h));
  }
}

/// Largest error against dense attention in double; infinite for what is not finite.
template <row_scalar Scalar>
double error(const problem<Scalar>& p, const attention_options& dense, const std::vector<float>& result) {
  const auto exact = reference::attention(p.template input<double>(), {}, dense).out;
  REQUIRE(result.size() == exact.size());
  double worst = 0;
  for (std::size_t i = 0; i < exact.size(); ++i)
    worst = larger(worst, std::isfinite(result[i]) ? std::fabs(result[i] - exact[i]) : double{infinity});
  return worst;
}

}  // namespace

TEMPLATE_TEST_CASE("odd values: NaN and infinity reach the rows that see them, and no others", "[attention]", float,
                   bfloat16) {
  const auto    some = odd_modes();
  const mode    m    = GENERATE_COPY(from_range(some.begin(), some.end()));
  const auto    all  = ways<TestType>();
  const auto    way  = GENERATE_COPY(from_range(all.begin(), all.end()));
  const shape   size = {100, 4, 2, 8, 8};
  const index_t odd = 40, passed = odd + m.options.sliding_window.value_or(size.tokens);
  CAPTURE(m, way);
  const problem<TestType>      clean(size, 30);
  const std::vector<selection> s        = {random_selection(size.tokens, 0.3, 8)};
  const auto                   run      = [&](const problem<TestType>& p) { return way.attend(m.options, p, s); };
  const auto                   expected = run(clean);
  const auto                   spoilt = [&](head_rows<TestType> problem<TestType>::* rows, index_t head, float value) {
    problem<TestType> p                = clean;
    (p.*rows).view().row(odd, head)[3] = from_float<TestType>(value);
    return run(p);
  };
  const auto of_query = spoilt(&problem<TestType>::q, 1, not_a_number);
  const auto of_key   = spoilt(&problem<TestType>::k, 0, not_a_number);
  const auto of_value = spoilt(&problem<TestType>::v, 0, not_a_number);
  const auto of_large = spoilt(&problem<TestType>::v, 0, infinity);
  const bool windowed = m.options.keys == key_set::near,
             by_mass  = m.options.keys == key_set::near_and_far && m.options.open == opening::by_mass;
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h)
      for (std::size_t c = 0; c < 8; ++c) {
        CAPTURE(t, h, c);
        const std::size_t i = row_of(size, t, h) + c;
        const bool sees = t >= odd && h < 2 && t < passed && !(windowed && t >= 64);  // the chunk from 64 begins at 48
        const bool asks = h == 1 && (t == odd || asking(m.options, s[0], t) == odd);
        const auto same = [&](const attended& a) { return same_bits(a.out, expected.out, i, i + 1); };
        REQUIRE(std::isfinite(expected.out[i]));
        REQUIRE((sees ? std::isnan(of_key.out[i]) : same(of_key)));
        REQUIRE((sees && c == 3 ? std::isnan(of_value.out[i]) : same(of_value)));
        REQUIRE((sees && c == 3 ? !std::isfinite(of_large.out[i]) : same(of_large)));
        // What the odd query no longer opens, its tile does not see.
        const bool tile = by_mass && h < 2 && t / 8 == odd / 8;
        REQUIRE((asks ? std::isnan(of_query.out[i]) : tile ? std::isfinite(of_query.out[i]) : same(of_query)));
      }
  for (const auto* result : {&of_query, &of_key, &of_value, &of_large}) {  // a NaN row has no share
    CHECK(result->report.mass >= 0);
    CHECK(result->report.mass <= static_cast<double>(result->report.far_rows));
  }
}

TEMPLATE_TEST_CASE("odd values: a head's NaN query asks for nothing, and the heads beside it do not care",
                   "[attention]", float, bfloat16) {
  const auto all = ways<TestType>();
  const auto way = GENERATE_COPY(from_range(all.begin(), all.end()));
  CAPTURE(way);
  const shape                  size    = {100, 6, 2, 8, 8};  // three heads a KV head
  const attention_options      options = token_modes[5].options;
  const std::vector<selection> s       = {random_selection(size.tokens, 0.1, 9)};
  problem<TestType>            sure(size, 31);
  for (index_t t = 64; t < 72; ++t)  // each asks for its own key: all of its mass is near
    for (index_t c = 0; c < 8; ++c)
      sure.q.view().row(t, 1)[c] = from_float<TestType>(40 * to_float(sure.k.view().row(t, 0)[c]));
  problem<TestType> odd = sure;
  for (index_t t = 64; t < 72; ++t) odd.q.view().row(t, 1)[t % 8] = from_float<TestType>(not_a_number);
  const auto expected = way.attend(options, sure, s), result = way.attend(options, odd, s);
  CHECK(result.report.opened == expected.report.opened);
  CHECK(expected.report.opened > 0);
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h) {
      CAPTURE(t, h);
      const std::size_t row = row_of(size, t, h);
      if (h == 1 && t / 8 == 8)
        for (std::size_t c = 0; c < 8; ++c) CHECK(std::isnan(result.out[row + c]));
      else
        CHECK(same_bits(result.out, expected.out, row, row + 8));
    }
}

TEMPLATE_TEST_CASE("odd values: rows of NaN of either sign ask for nothing", "[attention]", float, bfloat16) {
  const auto all = ways<TestType>();
  const auto way = GENERATE_COPY(from_range(all.begin(), all.end()));
  CAPTURE(way);
  attention_options options = token_modes[5].options;
  options.leaves = leaf_formation::by_order, options.leaf = 4;
  problem<TestType> p({100, 4, 2, 8, 8}, 37);
  std::mt19937      random(38);
  p.k.fill([&] { return random() % 2 == 0 ? not_a_number : -not_a_number; });
  const auto result = way.attend(options, p, {random_selection(100, 0.1, 9)});
  CHECK(result.report.far_rows > 0);
  CHECK(result.report.opened == 0);
  CHECK(result.report.mass == 0);
  for (const float x : result.out) REQUIRE(std::isnan(x));
}

TEMPLATE_TEST_CASE("odd values: NaN in a leaf reaches every later row of its head", "[attention]", float, bfloat16) {
  const mode m = GENERATE(
      filter([](const mode& some) { return some.options.causal && some.options.keys == key_set::near_and_far; },
             from_range(modes.begin(), modes.end())));
  const auto  all  = ways<TestType>();
  const auto  way  = GENERATE_COPY(from_range(all.begin(), all.end()));
  const shape size = {130, 2, 2, 8, 8};
  CAPTURE(m, way);
  const std::vector<selection> s = {random_selection(130, 0.3, 8)};
  problem<TestType>            p(size, 31);
  const auto                   expected = way.attend(m.options, p, s).out;
  p.k.view().row(6, 0)[0]               = from_float<TestType>(not_a_number);
  const auto result                     = way.attend(m.options, p, s).out;
  for (index_t t = 0; t < size.tokens; ++t) {
    CAPTURE(t);
    CHECK(std::isnan(result[row_of(size, t, 0)]) == (t >= 6));
    CHECK(same_bits(result, expected, row_of(size, t, 1), row_of(size, t, 1) + 8));
  }
}

TEMPLATE_TEST_CASE("odd values: -ffast-math costs bits of attention, no more", "[attention]", float, bfloat16) {
  const mode  m    = GENERATE(from_range(modes.begin(), modes.end()));
  const auto  all  = ways<TestType>();
  const shape size = {130, 4, 2, 20, 12};
  CAPTURE(m);
  const problem<TestType>      p(size, 32);
  const std::vector<selection> s = {random_selection(130, 0.2, 10)};
  for (const auto& way : all) {
    CAPTURE(way);
    const auto alike    = std::find_if(all.begin(), all.end(), [&](const auto& w) { return w.pairs == way.pairs; });
    const auto expected = alike->attend(m.options, p, s).out, result = way.attend(m.options, p, s).out;
    REQUIRE(result.size() == expected.size());
    double worst = 0;
    for (std::size_t i = 0; i < result.size(); ++i)
      worst = larger(worst, std::fabs(double{result[i]} - double{expected[i]}));
    CHECK(worst < (way.pairs ? 1e-2 : 1e-5));
  }
}

TEMPLATE_TEST_CASE("odd values: logits up to 1e30 pick their key", "[attention]", float, bfloat16) {
  const mode  m      = GENERATE(filter([](const mode& some) { return some.options.keys != key_set::near; },
                                 from_range(token_modes.begin(), token_modes.end())));
  const auto  all    = ways<TestType>();
  const auto  way    = GENERATE_COPY(from_range(all.begin(), all.end()));
  const float factor = GENERATE(from_range(sample(std::vector{1e6f, 1e8f, 4e9f, 1e12f, 1e20f, 1e30f})));
  CAPTURE(m, way, factor);
  problem<TestType> p({100, 4, 2, 16, 8}, 33);
  const selection   s = random_selection(100, 0.3, 11);
  for (auto* rows : {&p.q, &p.k})
    for (index_t t = 0; t < 100; ++t)
      for (index_t h = 0; h < rows->view().heads; ++h)
        for (index_t c = 0; c < 16; ++c) {
          TestType& x = rows->view().row(t, h)[c];
          x           = from_float<TestType>(to_float(x) * std::sqrt(factor));
        }
  duplicate(p, s);
  CHECK(error(p, {.keys = key_set::all}, way.attend(m.options, p, {s}).out) < 1e-5);
}

TEMPLATE_TEST_CASE("odd values: clusters whose keys, values or queries have sums that overflow", "[attention]", float,
                   bfloat16) {
  const attention_options near_and_far = {
      .window = 16, .chunk = 32, .leaves = leaf_formation::by_order, .moments = 4, .open = opening::none};
  const attention_options means   = {.keys = key_set::representatives, .causal = false, .weighted = true};
  attention_options       grouped = near_and_far, opened = near_and_far, queries = means;
  grouped.queries = query_set::grouped, queries.queries = query_set::representatives;
  opened.open = opening::by_mass, opened.open_above = 0.3f;
  const attention_options options = GENERATE_COPY(near_and_far, grouped, opened, means, queries);
  const auto              all     = ways<TestType>();
  const auto              way     = GENERATE_COPY(from_range(all.begin(), all.end()));
  CAPTURE(options.keys, options.queries, options.open, way);
  problem<TestType> p({200, 2, 1, 8, 8}, 44);
  for (index_t t = 0; t < 200; ++t) {
    for (index_t h = 0; h < 2; ++h) {  // small where keys are large, and the other way round
      p.q.view().row(t, h)[0] = from_float<TestType>(t % 2 == 0 ? 0x1p-125f : -0x1p-126f);
      p.q.view().row(t, h)[7] = from_float<TestType>(0x1p124f);
    }
    p.k.view().row(t, 0)[0] = from_float<TestType>(0x1.8p125f * static_cast<float>(1 + t % 4));
    p.k.view().row(t, 0)[7] = from_float<TestType>(0x1p-122f * static_cast<float>(t % 3));
    p.v.view().row(t, 0)[2] = from_float<TestType>(0x1p122f);
  }
  const std::vector<selection> s      = {random_selection(200, 0.02, 13)};
  const auto                   exact  = reference::attention(p.template input<double>(), assignments(s), options);
  const auto                   result = way.attend(options, p, s).out;
  REQUIRE(result.size() == exact.out.size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (margin(exact, i / 16) < 0.01) continue;
    REQUIRE(std::fabs(result[i] - exact.out[i]) < (way.pairs ? 0.1 : 1e-5) * (1 + std::fabs(exact.out[i])));
  }
}

TEMPLATE_TEST_CASE("odd values: variances and lengths of queries that overflow", "[attention]", float, bfloat16) {
  const auto all  = ways<TestType>();
  const auto way  = GENERATE_COPY(from_range(all.begin(), all.end()));
  const auto wide = GENERATE(false, true);  // keys far apart that queries do not look at, or huge queries of equal keys
  CAPTURE(way, wide);
  problem<TestType> p({100, 2, 1, 2, 8}, 45);
  for (index_t t = 0; t < 100; ++t) {
    for (index_t h = 0; h < 2; ++h)
      for (index_t c = 0; c < 2; ++c) p.q.view().row(t, h)[c] = from_float<TestType>(wide ? 0.0f : 0x1p70f);
    for (index_t c = 0; c < 2; ++c)
      p.k.view().row(t, 0)[c] = from_float<TestType>(!wide ? 0x1p-70f : t % 3 == 0 ? 0x1p90f : -0x1p100f);
  }
  attention_options options = token_modes[3].options;
  options.moments           = 1;
  const selection one(std::vector<index_t>(100, 0));
  CHECK(error(p, {.keys = key_set::all}, way.attend(options, p, {one}).out) < (way.pairs ? 2e-2 : 1e-5));
}

TEMPLATE_TEST_CASE("odd values: the lowest logits of all are as good as others", "[attention]", float, bfloat16) {
  const mode    m      = any_token_mode();
  const auto    all    = ways<TestType>();
  const auto    way    = GENERATE_COPY(from_range(all.begin(), all.end()));
  const float   lowest = std::same_as<TestType, float> ? std::numeric_limits<float>::lowest() : -0x1.fep127f;
  const float   key    = GENERATE_COPY(as<float>{}, lowest, -0x1p127f, -0x1p60f);
  const index_t T      = 77;  // ends inside vectors
  CAPTURE(m, way, key);
  problem<TestType> p({T, 2, 1, 1, 8}, 34);
  // In base 2 logits are the keys: the product of this scale and log2 e is 1.
  attention_options options = m.options, dense = {.keys = key_set::all};
  options.scale = dense.scale = std::numbers::ln2_v<float>;
  p.q.fill([] { return 1.0f; });
  p.k.fill([&] { return key; });
  if (options.keys == key_set::near) dense = options;
  const std::vector<selection> s = {identity_selection(T)};
  CHECK(error(p, dense, way.attend(options, p, s).out) < (way.pairs ? 2e-2 : 1e-5));
}

TEMPLATE_TEST_CASE("odd values: logits of -infinity weigh nothing, and alone they leave zero, unless they are capped",
                   "[attention]", float, bfloat16) {
  const mode  m    = GENERATE(from_range(modes.begin(), modes.end()));
  const auto  all  = ways<TestType>();
  const auto  way  = GENERATE_COPY(from_range(all.begin(), all.end()));
  const shape size = {77, 2, 1, 1, 8};
  CAPTURE(m, way);
  problem<TestType> p(size, 35);
  p.q.fill([] { return 1.0f; });
  p.k.fill([] { return -infinity; });
  const std::vector<selection> s      = {random_selection(77, 0.3, 12)};
  const auto                   result = way.attend(m.options, p, s).out;
  const auto                   exact  = reference::attention(p.template input<double>(), assignments(s), m.options).out;
  REQUIRE(result.size() == exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    REQUIRE(std::fabs(result[i] - exact[i]) < (way.pairs ? 2e-2 : 1e-5));
    if (!m.options.softcap) REQUIRE(result[i] == 0);
    if (!m.options.softcap) REQUIRE(exact[i] == 0);
    if (m.options.softcap) REQUIRE(exact[i] != 0);
  }
}

TEMPLATE_TEST_CASE("odd values: keys whose logit is -infinity are as if they were not there", "[attention]", float,
                   bfloat16) {
  const mode m   = any_token_mode();
  const auto all = ways<TestType>();
  const auto way = GENERATE_COPY(from_range(all.begin(), all.end()));
  CAPTURE(m, way);
  problem<TestType> p({77, 2, 1, 1, 8}, 36);
  p.q.fill([] { return 1.0f; });
  p.k.fill([t = 0]() mutable { return t++ % 3 == 1 ? 0.5f : -infinity; });
  attention_options dense = {.keys = key_set::all};
  if (m.options.keys == key_set::near) dense = m.options;
  CHECK(error(p, dense, way.attend(m.options, p, {identity_selection(77)}).out) < (way.pairs ? 2e-2 : 1e-5));
}

TEST_CASE("odd values: decoding over float16 shows NaN to the tokens that see it, also with -ffast-math",
          "[attention]") {
  const mode m = GENERATE(mode{"dense", dense_options}, token_modes[5]);
  CAPTURE(m);
  const shape      size   = {100, 4, 2, 32, 32};  // whole vectors: keys and values stay where they lie
  const index_t    prompt = 60, early = 40, late = 80;
  const selection  s = random_selection(size.tokens, 0.3, 8);
  problem<float16> p(size, 30);
  const auto       clean      = strict_decode(m.options, p, s, prompt);
  p.v.view().row(early, 0)[3] = p.k.view().row(late, 1)[3] = from_float<float16>(not_a_number);
  const auto strict = strict_decode(m.options, p, s, prompt), fast = fast_math_decode(m.options, p, s, prompt);
  REQUIRE(clean.size() == static_cast<std::size_t>(size.tokens * size.heads * size.value_dim));
  REQUIRE(strict.size() == clean.size());
  REQUIRE(fast.size() == clean.size());
  constexpr float other_order = 1e-5f;  // -ffast-math may add in one; values are of the order of 1
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h)
      for (std::size_t c = 0; c < 32; ++c) {
        CAPTURE(t, h, c);
        const std::size_t i    = row_of(size, t, h) + c;
        const bool        sees = h < 2 ? t >= early && c == 3 : t >= late;
        REQUIRE(std::isnan(strict[i]) == sees);
        REQUIRE(std::isnan(fast[i]) == sees);
        REQUIRE((sees || (same_bits(strict, clean, i, i + 1) && std::fabs(fast[i] - clean[i]) < other_order)));
      }
}

TEST_CASE("odd values: options that are no numbers are refused by code compiled with -ffast-math", "[errors]") {
  CHECK(fast_math_check({}) == status::ok);
  for (const float odd : {not_a_number, -not_a_number, infinity, -infinity, 0.0f}) {
    CAPTURE(odd);
    CHECK(fast_math_check({.scale = odd}) == status::invalid_shape);
    CHECK(fast_math_check({.leaf_threshold = odd}) == status::invalid_threshold);
    CHECK(fast_math_check({.open_above = odd}) == status::invalid_threshold);
  }
  CHECK(fast_math_check({.scale = 3e38f}) == status::too_large);
}
