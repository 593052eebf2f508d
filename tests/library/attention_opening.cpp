// Leaves that open: who asks, who sees what was opened, and what the report counts, against the reference.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "attention_data.hpp"
#include "catch.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

const std::vector<mode> opened_modes = {
    {"by keys", {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8}},
    {"by keys, tiles of a chunk", {.window = 0, .chunk = 16, .leaf_threshold = 0.2f, .leaf = 5, .open_above = 0.05f}},
    {"by keys, tiles of one", {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 1}},
    {"by order, no moments, more sinks", opened_by_order},
};

mode any_opened(std::size_t line = __builtin_LINE()) { return GENERATE_COPY(from_range(sample(opened_modes, line))); }

/// A problem of which every decision to open is clear by `narrow` nats.
template <row_scalar Scalar>
problem<Scalar> decided_problem(const shape& size, const attention_options& options,
                                const std::vector<selection>& selections, double narrow) {
  for (unsigned seed = 1; seed < 200; ++seed) {
    problem<Scalar> p(size, seed);
    const auto      exact   = reference::attention(p.template input<double>(), assignments(selections), options);
    bool            decided = true;
    for (std::size_t row = 0; row < exact.above.size(); ++row) decided &= margin(exact, row) >= narrow;
    if (decided) return p;
  }
  FAIL("no problem is decided");
  return problem<Scalar>(size, 0);
}

/// What the report of a call has to say, of the walk with a near field.
attention_report expected_report(const reference::attention_output<double>& exact, const attention_options& options,
                                 const shape& size) {
  attention_report expected;
  const index_t    tile = options.open == opening::by_mass ? options.tile : 1;
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t g = 0; g < size.kv_heads; ++g) {
      const auto    row  = static_cast<std::size_t>(t * size.kv_heads + g);
      const index_t end  = std::min(size.tokens, t / options.chunk * options.chunk + options.chunk);
      const index_t last = std::min(end, t / tile * tile + tile) - 1;  // of the tile
      ++expected.rows;
      expected.dense_keys += t + 1;
      expected.near_keys += exact.near_keys[row];
      expected.leaves += exact.leaves[row];
      expected.opened += exact.opened[row];
      expected.computed += exact.opened[static_cast<std::size_t>(last * size.kv_heads + g)];
      expected.far_rows += exact.leaves[row] > 0;
      expected.mass += exact.closed_mass[row];
    }
  return expected;
}

void check_counts(const attention_report& ours, const attention_report& expected) {
  CHECK(ours.rows == expected.rows);
  CHECK(ours.dense_keys == expected.dense_keys);
  CHECK(ours.near_keys == expected.near_keys);
  CHECK(ours.leaves == expected.leaves);
  CHECK(ours.opened == expected.opened);
  CHECK(ours.computed == expected.computed);
  CHECK(ours.far_rows == expected.far_rows);
}

}  // namespace

TEST_CASE("opening: strictly causal at every offset within a tile", "[attention]") {
  const mode m = any_opened();
  CAPTURE(m);
  const shape                  size       = {112, 6, 2, 16, 12};
  const std::vector<selection> selections = {random_selection(size.tokens, 0.1, 1)};
  const problem<float>         p(size, 2);
  const auto                   result = attend(m.options, p, selections);
  const index_t                tile = m.options.tile, first = 96 / tile * tile;
  int                          followed = 0;
  for (index_t t = first; t < std::min(first + tile, size.tokens); ++t) {
    CAPTURE(t);
    problem<float> asking = p, changed = p, poisoned = p;
    for (index_t h = 0; h < size.heads; ++h)  // asks for other leaves, and for more
      for (index_t c = 0; c < size.key_dim; ++c) asking.q.view().row(t, h)[c] *= -3;
    changed.randomise(99, t);
    poisoned.poison(t);
    const auto of_asking = attend(m.options, asking, selections);
    CHECK(same_bits(result, of_asking, 0, row_of(size, t)));
    CHECK(same_bits(result, attend(m.options, changed, selections), 0, row_of(size, t)));
    CHECK(same_bits(result, attend(m.options, poisoned, selections), 0, row_of(size, t)));
    // What it asked for, the rest of its tile sees, and nobody else.
    const index_t end = std::min(first + tile, size.tokens);
    CHECK(same_bits(result, of_asking, row_of(size, end), result.size()));
    if (t + 1 < end) followed += !same_bits(result, of_asking, row_of(size, t + 1), row_of(size, end));
  }
  CHECK((followed > 0) == (tile > 1));
}

TEMPLATE_TEST_CASE("opening: the report says what the reference counts", "[attention]", float, float16) {
  const mode m = any_opened();
  CAPTURE(m);
  const shape                  size       = {150, 6, 2, 16, 12};
  const std::vector<selection> selections = {random_selection(150, 0.1, 3), random_selection(150, 0.3, 4)};
  const auto                   p          = decided_problem<TestType>(size, m.options, selections, 1e-4);
  const auto exact    = reference::attention(p.template input<double>(), assignments(selections), m.options);
  const auto expected = expected_report(exact, m.options, size);
  const auto ours     = attend_and_report<float>(m.options, p, p.kv(), selections).report;
  check_counts(ours, expected);
  CHECK(std::fabs(ours.mass - expected.mass) <= 1e-5 * static_cast<double>(expected.far_rows));
  CHECK(ours.closed_mass() == ours.mass / static_cast<double>(ours.far_rows));
  const auto read = static_cast<double>(ours.near_keys + ours.leaves + ours.computed);
  CHECK(ours.share_of_dense() == read / static_cast<double>(ours.dense_keys));
  // It decides something: leaves open and others stay closed, and rows wait for what their tile asks later.
  CHECK(expected.opened > 100);
  CHECK(expected.mass > 1e-3 * static_cast<double>(expected.far_rows));
  CHECK((expected.computed > expected.opened) == (m.options.tile > 1));
  for (const index_t threads : {1, 2, 5}) {
    thread_pool<compiled_isa> pool(threads);
    CHECK(attend_and_report<float>(m.options, p, p.kv(), selections, {}, test_backend{{&pool}}).report == ours);
  }
}

TEMPLATE_LIST_TEST_CASE("opening: bfloat16, every kind of product opens the same leaves", "[attention]",
                        product_backends) {
  const mode m = any_opened();
  CAPTURE(m);
  const shape                  size       = {80, 2, 1, 33, 12};
  const std::vector<selection> selections = {random_selection(80, 0.1, 3)};
  const auto                   p          = decided_problem<bfloat16>(size, m.options, selections, 0.01);
  const auto exact    = reference::attention(p.template input<double>(), assignments(selections), m.options);
  const auto expected = expected_report(exact, m.options, size);
  const auto ours     = attend_and_report<float>(m.options, p, p.kv(), selections, {}, TestType()).report;
  check_counts(ours, expected);
  CHECK(std::fabs(ours.mass - expected.mass) <= 5e-3 * static_cast<double>(expected.far_rows));
  CHECK(expected.opened > 50);
}

TEST_CASE("opening: the report of closed leaves", "[attention]") {
  const auto queries = GENERATE(query_set::all, query_set::grouped);
  const auto leaves  = GENERATE(leaf_formation::by_order, leaf_formation::by_keys);
  CAPTURE(queries, leaves);
  const shape                  size       = {150, 6, 2, 16, 12};
  const std::vector<selection> selections = {random_selection(150, 0.1, 5)};
  const attention_options      options    = {
              .queries = queries, .window = 16, .chunk = 32, .leaves = leaves, .leaf_threshold = 0.3f, .open = opening::none};
  const problem<float> p(size, 6);
  const auto           exact    = reference::attention(p.input<double>(), assignments(selections), options);
  const auto           expected = expected_report(exact, options, size);
  const auto           ours     = attend_and_report<float>(options, p, p.kv(), selections).report;
  check_counts(ours, expected);
  CHECK(ours.opened == 0);
  CHECK(ours.computed == 0);
  CHECK(std::fabs(ours.mass - expected.mass) <= 1e-5 * static_cast<double>(expected.far_rows));
  CHECK(expected.mass > 1e-3 * static_cast<double>(expected.far_rows));
}

TEST_CASE("opening: the report where there are no leaves", "[attention]") {
  const index_t        T    = 150;
  const shape          size = {T, 6, 2, 16, 12};
  const problem<float> p(size, 7);
  const selection      s      = random_selection(T, 0.2, 8);
  const auto           r      = static_cast<std::int64_t>(s.indices.size());
  const auto           report = [&](const attention_options& options) {
    return attend_and_report<float>(options, p, p.kv(), {s}).report;
  };
  const std::int64_t causal = 2 * T * (T + 1) / 2, all = 2 * T * T;
  CHECK(report({.keys = key_set::all}) == attention_report{.rows = 2 * T, .dense_keys = causal, .near_keys = causal});
  CHECK(report({.keys = key_set::all, .causal = false}) ==
        attention_report{.rows = 2 * T, .dense_keys = all, .near_keys = all});
  CHECK(report({.open = opening::all}) == report({.keys = key_set::all}));
  CHECK(report({.window = T}) == report({.keys = key_set::all}));
  std::int64_t near = 0;
  for (index_t t = 0; t < T; ++t) {
    const index_t edge = std::max(0, t / 32 * 32 - 16);
    near += 2 * (t - edge + 1 + std::min(3, edge));
  }
  CHECK(report({.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 3}) ==
        attention_report{.rows = 2 * T, .dense_keys = causal, .near_keys = near});
  const auto compressed = [&](bool is_causal, bool weighted) {
    return report({.keys     = key_set::representatives,
                   .queries  = query_set::representatives,
                   .causal   = is_causal,
                   .weighted = weighted});
  };
  for (const bool weighted : {false, true}) {
    CHECK(compressed(true, weighted) == attention_report{.rows = 2 * T, .dense_keys = causal, .leaves = r * (r + 1)});
    CHECK(compressed(false, weighted) == attention_report{.rows = 2 * T, .dense_keys = all, .leaves = 2 * r * r});
  }
  CHECK(report({.keys = key_set::representatives, .causal = false, .weighted = true}) ==
        attention_report{.rows = 2 * T, .dense_keys = all, .leaves = 2 * T * r});
}

TEST_CASE("opening: below every share, all leaves of several tokens open", "[attention]") {
  const index_t                T = 150;
  const problem<float>         p({T, 4, 2, 16, 12}, 9);
  const std::vector<selection> one     = {selection(std::vector<index_t>(static_cast<std::size_t>(T), 0))};
  const attention_options      options = {
           .window = 16, .chunk = 32, .leaves = leaf_formation::by_order, .leaf = 4, .open_above = 1e-20f, .tile = 8};
  const auto   ours   = attend_and_report<float>(options, p, p.kv(), one);
  std::int64_t opened = 0;
  for (index_t t = 0; t < T; ++t) {
    const index_t far = std::max(0, t / 32 * 32 - 16 - 1);  // one is a sink
    opened += 2 * (far - (far % 4 == 1 ? 1 : 0));
  }
  CHECK(ours.report.opened == opened);
  CHECK(ours.report.computed == opened);
  CHECK(ours.report.mass <= 1e-7 * static_cast<double>(ours.report.far_rows));
}

TEMPLATE_TEST_CASE("opening: a share exceeds open_above, or does not, by a hair", "[attention]", float, bfloat16) {
  // All logits are equal. Beside the leaf {0, 1}, which weighs 2, token 2 sees itself, and token 3 two tokens.
  problem<TestType> p({4, 2, 1, 1, 8}, 12);
  p.q.fill([] { return 0.0f; });
  const auto opened = [&](float open_above, index_t tile) {
    const attention_options options = {.window      = 0,
                                       .chunk       = 2,
                                       .sink_tokens = 0,
                                       .leaves      = leaf_formation::by_order,
                                       .open_above  = open_above,
                                       .tile        = tile};
    return attend_and_report<float>(options, p, p.kv(), {selection({0, 0, 0, 0})}).report.opened;
  };
  CHECK(opened(0.6666f, 1) == 2);
  CHECK(opened(0.6667f, 1) == 0);
  CHECK(opened(0.6666f, 2) == 4);  // token 3 sees what token 2 asked for
  CHECK(opened(0.6667f, 2) == 0);
  CHECK(opened(0.4999f, 1) == 4);
  CHECK(opened(0.5f, 1) == 2);  // a half is no more than a half
}

TEST_CASE("opening: leaves of one token have nothing to open", "[attention]") {
  const auto                   leaves = GENERATE(leaf_formation::by_order, leaf_formation::by_keys);
  const problem<float>         p({150, 4, 2, 16, 12}, 10);
  const attention_options      options = {.window = 16, .chunk = 32, .leaves = leaves, .open_above = 1e-20f};
  const std::vector<selection> each    = {identity_selection(150)};
  attention_options            alone   = options;
  alone.leaf                           = 1;
  for (const auto& result : {attend_and_report<float>(options, p, p.kv(), each),
                             attend_and_report<float>(alone, p, p.kv(), {random_selection(150, 0.1, 11)})}) {
    CHECK(result.report.leaves + result.report.near_keys == result.report.dense_keys);
    CHECK(result.report.opened == 0);
    CHECK(result.report.computed == 0);
    CHECK(result.report.mass == 0);
  }
}

TEMPLATE_TEST_CASE("opening: the correction of 16-bit rows is float's within 0.01 nat", "[attention]", bfloat16,
                   float16) {
  // Near keys have the value 0 and the one leaf 1, so the result's odds are the leaf's weight over that of near keys;
  // with a correction they are e^correction times what they are without.
  const index_t leaf = 16, T = 2 * leaf, d = GENERATE(16, 64, 100);
  const float   scale = GENERATE(0.02f, 0.1f, 0.3f), wide = GENERATE(0.3f, 2.0f);
  const index_t moments = GENERATE(1, 3, 8);
  CAPTURE(d, scale, wide, moments);
  problem<TestType>               p({T, 1, 1, d, 1}, 12);
  std::mt19937                    random(13);
  std::normal_distribution<float> normal;
  std::vector<float>              center;
  for (index_t c = 0; c < d; ++c) center.push_back(normal(random));
  for (index_t t = 0; t < T; ++t) {
    for (index_t c = 0; c < d; ++c)
      p.k.view().row(t, 0)[c] = from_float<TestType>(center[static_cast<std::size_t>(c)] + wide * normal(random));
    p.v.view().row(t, 0)[0] = from_float<TestType>(t < leaf ? 1.0f : 0.0f);
  }
  attention_options            options = {.window      = 0,
                                          .chunk       = leaf,
                                          .sink_tokens = 0,
                                          .leaves      = leaf_formation::by_order,
                                          .leaf        = leaf,
                                          .moments     = moments,
                                          .open        = opening::none,
                                          .scale       = scale};
  const std::vector<selection> one     = {selection(std::vector<index_t>(static_cast<std::size_t>(T), 0))};
  const auto                   with    = attend<float>(options, p, p.kv(), one);
  options.moments                      = std::nullopt;
  const auto                 without   = attend<float>(options, p, p.kv(), one);
  const auto                 in        = p.template input<double>();
  std::vector<const double*> keys;
  for (index_t t = 0; t < leaf; ++t) keys.push_back(in.key(t, 0));
  const auto                      variance  = reference::variances(keys, d, moments);
  const auto                      zero      = std::vector<double>(static_cast<std::size_t>(d), 0.0);
  const reference::source<double> corrected = {zero.data(), zero.data(), 1, &variance};
  int                             measured  = 0;
  for (index_t t = leaf; t < T; ++t) {
    const auto   i    = static_cast<std::size_t>(t);
    const double odds = with[i] / (1.0 - with[i]), before = without[i] / (1.0 - without[i]);
    if (before < 1e-2 || odds > 1e2) continue;  // the results' own rounding would show
    const double exact = reference::logit(in.query(t, 0), corrected, double{scale}, d);
    CAPTURE(t, odds, before);
    CHECK(std::fabs(std::log(odds / before) - exact) < 0.01);
    ++measured;
  }
  CHECK(measured > 0);
}
