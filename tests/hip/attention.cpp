// Attention on the simulated gfx942 against the reference in double.

#include <set>
#include <string>

#include "hip/plain_attention.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

}  // namespace

TEMPLATE_TEST_CASE("hip attention: every mode against the reference", "[hip]", ROW_TYPES) {
  const unsigned seed = GENERATE(from_range(tests::sample(std::vector{1u, 2u, 3u})));
  for (const auto& mode : tests::sample(device_modes())) {
    CAPTURE(mode.name);
    check_close<TestType>(mode.options, {70, 2, 1, 64, 64}, tests::random_selection(70, 0.3, seed), seed);
  }
}

TEMPLATE_TEST_CASE("hip attention: head sizes, groups of heads, ragged lengths", "[hip]", ROW_TYPES) {
  const auto shape  = GENERATE(tests::shape{1, 1, 1, 64, 64}, tests::shape{33, 3, 1, 64, 64},
                               tests::shape{65, 4, 2, 128, 128}, tests::shape{40, 2, 2, 256, 256});
  const auto share  = GENERATE(0.0, 0.4, 1.0);  // r = 1, some, T
  const auto chosen = tests::random_selection(shape.tokens, share, 3);
  check_close<TestType>(closed({.window = 8, .chunk = 16}), shape, chosen, 5);
  check_close<TestType>({.keys = key_set::all}, shape, chosen, 6);
  check_close<TestType, TestType>({.keys = key_set::representatives, .queries = query_set::representatives}, shape,
                                  chosen, 7);
  check_close<TestType>({.keys = key_set::representatives, .queries = query_set::representatives, .weighted = true},
                        shape, chosen, 8);
  check_close<TestType, TestType>(closed({.queries = query_set::grouped, .window = 8, .chunk = 16}), shape, chosen, 9);
  check_close<TestType>({.keys = key_set::near, .window = 4, .chunk = 8, .sink_tokens = 7}, shape, chosen, 10);
  // Results in the type of the rows: here, and not in opening.cpp, which has kernels for float alone to compile.
  check_close<TestType, TestType>(opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.05f, .tile = 4}), shape,
                                  tests::random_selection(shape.tokens, 0.2, 7), 5);
  check_close<TestType>(closed({.window = 8, .chunk = 16, .leaf = 5, .scale = 0.3f, .softcap = 2.0f}), shape, chosen,
                        11);
}

TEST_CASE("hip attention: a selection for each KV head", "[hip]") {
  const problem<bfloat16>      p({70, 4, 2, 64, 64}, 14);
  const std::vector<selection> selections = {tests::random_selection(70, 0.1, 1), tests::random_selection(70, 0.5, 2)};
  for (const auto& mode : tests::sample(device_modes())) {
    if (mode.options.keys == key_set::all || mode.options.keys == key_set::near) continue;
    CAPTURE(mode.name);
    check_close<bfloat16>(mode.options, p, selections, 14);
  }
}

namespace {

/// The problem of one KV head.
template <class Scalar>
problem<Scalar> only_head(const problem<Scalar>& p, index_t kv_head) {
  const shape     size = {p.size.tokens, p.size.heads / p.size.kv_heads, 1, p.size.key_dim, p.size.value_dim};
  problem<Scalar> one(size, 1);
  for (auto [to, from] : {std::pair{&one.q, &p.q}, {&one.k, &p.k}, {&one.v, &p.v}})
    for (index_t t = 0; t < size.tokens; ++t)
      for (index_t h = 0; h < to->view().heads; ++h)
        std::copy_n(from->view().row(t, kv_head * to->view().heads + h), size.key_dim, to->view().row(t, h));
  return one;
}

/// The rows of a KV head's queries.
std::vector<float> rows_of_head(const std::vector<float>& all, const shape& size, index_t kv_head) {
  const index_t      heads = size.heads / size.kv_heads;
  std::vector<float> own;
  for (index_t t = 0; t < size.tokens; ++t) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row_of(size, t, kv_head * heads));
    own.insert(own.end(), begin, begin + heads * size.value_dim);
  }
  return own;
}

}  // namespace

TEST_CASE("hip attention: KV heads with selections of their own are as alone, in as many launches", "[hip]") {
  // Less than a slice of 32 representatives, and one chunk: so slices are the same, whatever there is beside it.
  const problem<bfloat16>      p({70, 6, 3, 64, 64}, 15);
  const std::vector<selection> all = {random_selection(70, 0.1, 1), random_selection(70, 0.4, 2),
                                      random_selection(70, 0.25, 3)};
  for (const auto& mode : tests::sample(device_modes())) {
    if (!needs_selections(mode.options)) continue;
    CAPTURE(mode.name);
    const simulator::stream where    = simulator::steady(15);
    const auto              together = attend_on_device<float>(mode.options, p, all, where);
    for (index_t g = 0; g < 3; ++g) {
      CAPTURE(g);
      const simulator::stream alone = simulator::steady(15);
      const auto              own =
          attend_on_device<float>(mode.options, only_head(p, g), {all[static_cast<std::size_t>(g)]}, alone);
      CHECK(same_bits(rows_of_head(together, p.size, g), own));
      CHECK(where.calls->launches == alone.calls->launches + 1);  // which gathers the selections
    }
  }
}

TEST_CASE("hip attention: more KV heads than a launch gathers selections of", "[hip]") {
  const problem<bfloat16> p({6, 66, 66, 64, 64}, 16);
  std::vector<selection>  all;
  for (unsigned g = 0; g < 66; ++g) all.push_back(random_selection(6, 0.5, g));
  const attention_options options  = {.keys = key_set::representatives, .queries = query_set::representatives};
  const simulator::stream where    = simulator::steady(16);
  const auto              together = attend_on_device<float>(options, p, all, where);
  CHECK(where.calls->launches == 2 + 2);
  for (const index_t g : {0, 1, 63, 64, 65})
    CHECK(same_bits(
        rows_of_head(together, p.size, g),
        attend_on_device<float>(options, only_head(p, g), {all[static_cast<std::size_t>(g)]}, simulator::steady(16))));
}

TEST_CASE("hip attention: of KV heads whose selections have failed nothing is written", "[hip]") {
  const problem<bfloat16> p({70, 4, 2, 64, 64}, 8);
  device_heads<bfloat16>  q(p.q.view()), k(p.k.view()), v(p.v.view());
  for (const auto& mode : tests::sample(device_modes())) {
    if (!needs_selections(mode.options)) continue;
    CAPTURE(mode.name);
    const std::vector<selection> good  = {random_selection(70, 0.3, 1), random_selection(70, 0.2, 2)};
    const auto                   usual = attend_on_device<float>(mode.options, p, good, simulator::steady(8));
    for (const std::size_t failing : {0u, 1u}) {
      CAPTURE(failing);
      std::vector<device_selection> kept             = {device_selection(random_selection(70, 0.3, 1)),
                                                        device_selection(random_selection(70, 0.2, 2))};
      kept[failing].count                            = -1;
      const std::vector<hip::selection_layer> layers = {kept[0].layer(), kept[1].layer()};
      device_heads<float>                     out(70, 4, 64);
      attention<bfloat16, simulator::stream>  attention(mode.options, simulator::steady(8));
      REQUIRE(attention(q.view(), strided_kv<bfloat16>{k.view(), v.view()}, layers, out.view()) == status::ok);
      const auto got = out.packed();
      for (index_t g = 0; g < 2; ++g)
        if (static_cast<std::size_t>(g) == failing)
          for (const float x : rows_of_head(got, p.size, g)) REQUIRE(x != x);
        else
          CHECK(same_bits(rows_of_head(got, p.size, g), rows_of_head(usual, p.size, g)));
    }
  }
}

TEST_CASE("hip attention: many heads in a group", "[hip]") {
  const auto chosen = tests::random_selection(40, 0.3, 4);
  check_close<bfloat16>(closed({.window = 4, .chunk = 8}), {40, 19, 1, 64, 64}, chosen, 15);
  check_close<bfloat16>(closed({.queries = query_set::grouped, .window = 4, .chunk = 8}), {40, 19, 1, 64, 64}, chosen,
                        15);
}

TEST_CASE("hip attention: scores below zero, rows that are the same", "[hip]") {
  problem<bfloat16> p({70, 2, 1, 64, 64}, 16);
  const auto        chosen = tests::random_selection(70, 0.3, 16);
  const bool        same   = GENERATE(false, true);
  for (index_t t = 0; t < 70; ++t)
    for (index_t c = 0; c < 64; ++c) {
      bfloat16* const key = p.k.view().row(t, 0);
      if (same)
        key[c] = p.k.view().row(chosen.rep[static_cast<std::size_t>(t)], 0)[c];
      else
        key[c] = from_float<bfloat16>(-std::fabs(to_float(key[c])));
      for (index_t h = 0; h < 2 && !same; ++h) {
        bfloat16& query = p.q.view().row(t, h)[c];
        query           = from_float<bfloat16>(std::fabs(to_float(query)));
      }
    }
  for (const auto& mode : tests::sample(device_modes())) {
    CAPTURE(mode.name, same);
    check_close<bfloat16>(mode.options, p, {chosen}, 16);
  }
}

TEMPLATE_TEST_CASE("hip attention: scores that rise from key to key", "[hip]", ROW_TYPES) {
  // Later logits outgrow the first ones a thousandfold and more, for some queries of a wave and not for others.
  const index_t     dim = GENERATE(64, 128, 256);
  problem<TestType> p({100, 2, 1, dim, dim}, 17);
  const auto        chosen = tests::random_selection(100, 0.8, 17);
  for (index_t t = 0; t < 100; ++t)
    for (index_t c = 0; c < dim; ++c) {
      TestType& x = p.k.view().row(t, 0)[c];
      x           = from_float<TestType>(to_float(x) * (1 + static_cast<float>(t) / 16));
    }
  check_close<TestType>({.keys = key_set::all}, p, {chosen}, 17);
  check_close<TestType>({.keys = key_set::all, .causal = false}, p, {chosen}, 18);
  check_close<TestType>(closed({.window = 8, .chunk = 16}), p, {chosen}, 19);
}

TEMPLATE_TEST_CASE("hip attention: equal logits of every size give means, and a larger one its value", "[hip]",
                   ROW_TYPES) {
  const index_t dim   = GENERATE(64, 256);
  const float   size  = GENERATE(1.0f, 37.0f, 3000.0f, 0x1.8p15f);  // of the elements of q and k
  const float   sign  = GENERATE(1.0f, -1.0f);
  const float   scale = GENERATE(0.125f, 0.1f, 1.0f);
  const index_t T = 70, marked = 45;
  CAPTURE(dim, size, sign, scale);
  problem<TestType> p({T, 2, 1, dim, dim}, 23);
  p.q.fill([&] { return size; });
  p.k.fill([&] { return sign * size; });
  problem<TestType> one = p;
  for (index_t c = 0; c < dim; ++c)
    one.k.view().row(marked, 0)[c] = from_float<TestType>(sign > 0 ? size * 1.25f : -size * 0.75f);
  const attention_options options = {.keys = key_set::all, .scale = scale};
  const auto              means   = attend_on_device<float>(options, p, {}, 3);
  const auto              largest = attend_on_device<float>(options, one, {}, 3);
  const bool              alone   = static_cast<float>(dim) * size * size * scale > 1000;  // others weigh below 2^-250
  for (index_t c = 0; c < dim; ++c) {
    double sum = 0;
    for (index_t t = 0; t < T; ++t) {
      sum += to_float(p.v.view().row(t, 0)[c]);
      for (index_t h = 0; h < 2; ++h) {
        const auto i = tests::row_of(p.size, t, h) + static_cast<std::size_t>(c);
        REQUIRE(std::fabs(means[i] - sum / (t + 1)) <= 1e-5);  // the sum of 70 floats of a few units
        if (t < marked)
          REQUIRE(largest[i] == means[i]);
        else if (alone)
          REQUIRE(largest[i] == to_float(p.v.view().row(marked, 0)[c]));
      }
    }
  }
}

TEMPLATE_TEST_CASE("hip attention: sliding windows of any length, of blocks that begin inside a token", "[hip]",
                   ROW_TYPES) {
  const auto shape =
      GENERATE(tests::shape{300, 1, 1, 64, 64}, tests::shape{150, 6, 2, 64, 64}, tests::shape{90, 2, 1, 256, 256});
  const index_t window = GENERATE(1, 2, 31, 64, 130, 299);
  CAPTURE(window);
  problem<TestType> p(shape, 36);
  check_close<TestType>({.keys = key_set::all, .sliding_window = window}, p, {}, 36);
  p.sink_logits.assign(static_cast<std::size_t>(shape.heads), 1.0f);
  check_close<TestType>({.keys = key_set::all, .softcap = 2.0f, .sliding_window = window}, p, {}, 37);
}

TEST_CASE("hip attention: keys before a sliding window are not seen, and one of everything is dense", "[hip]") {
  const problem<bfloat16> p({300, 2, 1, 64, 64}, 11);
  const auto              with = [&](const problem<bfloat16>& of, index_t window) {
    return attend_on_device<float>({.keys = key_set::all, .sliding_window = window}, of, {}, 38);
  };
  const auto dense = attend_on_device<float>({.keys = key_set::all}, p, {}, 38);
  CHECK(same_bits(dense, with(p, std::numeric_limits<index_t>::max())));
  const auto all   = with(p, 300);
  double     worst = 0;
  for (std::size_t i = 0; i < dense.size(); ++i) worst = larger(worst, std::fabs(double{dense[i]} - all[i]));
  CHECK(worst < 1e-2);  // keys meet in other tiles, where weights, which have 8 bits, are relative to another logit
  problem<bfloat16> odd = p;
  for (index_t c = 0; c < 64; ++c) odd.k.view().row(100, 0)[c] = from_float<bfloat16>(std::nanf(""));
  for (const index_t window : {1, 30, 128}) {
    const auto usual = with(p, window), spoilt = with(odd, window);
    for (index_t t = 0; t < 300; ++t)
      for (std::size_t i = row_of(p.size, t); i < row_of(p.size, t + 1); ++i)
        REQUIRE((t >= 100 && t < 100 + window ? spoilt[i] != spoilt[i] : spoilt[i] == usual[i]));
  }
}

TEST_CASE("hip attention: a cap far above all logits changes little, a small one makes weights alike", "[hip]") {
  const problem<bfloat16> p({100, 2, 1, 64, 64}, 12);
  const auto              plain = attend_on_device<float>({.keys = key_set::all}, p, {}, 34);
  const auto              high  = attend_on_device<float>({.keys = key_set::all, .softcap = 1e30f}, p, {}, 34);
  const auto              low   = attend_on_device<float>({.keys = key_set::all, .softcap = 1e-4f}, p, {}, 34);
  double                  worst = 0, of_mean = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) worst = larger(worst, std::fabs(double{plain[i]} - high[i]));
  for (index_t c = 0; c < 64; ++c) {
    double mean = 0;
    for (index_t t = 0; t < 100; ++t) mean += static_cast<double>(to_float(p.v.view().row(t, 0)[c])) / 100;
    of_mean = larger(of_mean, std::fabs(low[row_of(p.size, 99) + static_cast<std::size_t>(c)] - mean));
  }
  CHECK(worst < 1e-2);    // weights, which have 8 bits, are relative to other logits
  CHECK(of_mean < 1e-3);  // logits are within 1e-4 of each other, so that weights are cut off alike
}

TEMPLATE_TEST_CASE("hip attention: weights that are cut off lose little more than rounded ones, sums nothing", "[hip]",
                   ROW_TYPES) {
  constexpr index_t       T = 320, first = 64;  // rows that average enough keys
  const problem<TestType> p({T, 1, 1, 64, 64}, 12);
  const attention_options options = {.keys = key_set::all};
  const auto              exact   = reference::attention(p.template input<double>(), {}, options);
  std::vector<float>      sums(T);
  const auto              out =
      attend_part<float>(options, p, {}, 0, T, simulator::seeded(12), {.log_sum_exp = {sums.data(), T, 1, 1}});
  double of_cut = 0, of_rounded = 0, bias = 0;
  for (index_t t = first; t < T; ++t) {
    std::vector<double> rounded(64);
    double              total = 0;
    for (index_t j = 0; j <= t; ++j) {
      double logit = 0;
      for (index_t c = 0; c < 64; ++c)
        logit += static_cast<double>(to_float(p.q.view().row(t, 0)[c])) * to_float(p.k.view().row(j, 0)[c]) / 8;
      const auto weight = to_float(from_float<TestType>(static_cast<float>(std::exp(logit))));
      total += weight;
      for (index_t c = 0; c < 64; ++c)
        rounded[static_cast<std::size_t>(c)] += static_cast<double>(weight) * to_float(p.v.view().row(j, 0)[c]);
    }
    for (index_t c = 0; c < 64; ++c) {
      const auto at = row_of(p.size, t, 0) + static_cast<std::size_t>(c);
      of_cut += std::pow(out[at] - exact.out[at], 2);
      of_rounded += std::pow(rounded[static_cast<std::size_t>(c)] / total - exact.out[at], 2);
    }
    bias += (sums[static_cast<std::size_t>(t)] - exact.log_sum_exp[static_cast<std::size_t>(t)]) / (T - first);
  }
  CAPTURE(std::sqrt(of_cut / of_rounded), bias);
  CHECK(std::sqrt(of_cut / of_rounded) < 1.1);  // 1.06, were logs of weights spread evenly
  // Weights lose 0.0028 of themselves on average, or 0.00035.
  CHECK(std::fabs(bias) < (std::same_as<TestType, bfloat16> ? 3e-4 : 4e-5));
}

TEST_CASE("hip attention: under a cap infinite products are as large as it, and NaN stays", "[hip]") {
  problem<bfloat16>       p({70, 2, 1, 64, 64}, 13);
  const attention_options options = {.keys = key_set::all, .softcap = 3.0f};
  p.k.view().row(20, 0)[0]        = from_float<bfloat16>(infinity);
  const auto exact                = reference::attention(p.input<double>(), {}, options).out;
  const auto finite               = attend_on_device<float>(options, p, {}, 35);
  for (std::size_t i = 0; i < exact.size(); ++i)
    REQUIRE(std::fabs(finite[i] - exact[i]) < 0.02);  // weights have 8 bits
  p.q.view().row(50, 1)[7] = from_float<bfloat16>(std::nanf(""));
  const auto odd           = attend_on_device<float>(options, p, {}, 35);
  const auto begin         = row_of(p.size, 50, 1);
  for (std::size_t i = 0; i < odd.size(); ++i)
    REQUIRE((i >= begin && i < begin + 64 ? odd[i] != odd[i] : odd[i] == finite[i]));
}

TEST_CASE("hip attention: NaN and infinities in v reach no row more than 62 tokens away", "[hip]") {
  constexpr index_t T   = 300;
  const index_t     odd = GENERATE(100, 250, 260);  // the last ones: at the end of a block of 128 rows, and behind it
  const auto        chosen = tests::random_selection(T, 0.2, 21);
  const auto        value  = GENERATE(std::nanf(""), infinity);
  for (const attention_options& options : {attention_options{.keys = key_set::all},
                                           {.keys = key_set::all, .sliding_window = 20},
                                           {.keys = key_set::near, .window = 40, .chunk = 64},
                                           closed({.window = 8, .chunk = 16, .leaf = 3}),
                                           opened({.window = 8, .chunk = 16, .leaf = 3, .open_above = 0.05f})}) {
    CAPTURE(static_cast<int>(options.keys), static_cast<int>(options.open));
    problem<bfloat16> p({T, 1, 1, 64, 64}, 21);
    const auto        usual   = attend_on_device<float>(options, p, {chosen}, 35);
    p.v.view().row(odd, 0)[3] = from_float<bfloat16>(value);
    const auto    with        = attend_on_device<float>(options, p, {chosen}, 35);
    const index_t passed      = options.sliding_window ? odd + *options.sliding_window : T;
    for (index_t t = 0; t < T; ++t)
      for (index_t c = 0; c < 64; ++c) {
        const auto i = row_of(p.size, t, 0) + static_cast<std::size_t>(c);
        CAPTURE(t, c);
        if (c != 3 || t < odd - 62 || t > passed + 62) REQUIRE(with[i] == usual[i]);
        if (c == 3 && t >= odd && t < passed && options.keys == key_set::all) REQUIRE_FALSE(std::isfinite(with[i]));
      }
  }
}

TEMPLATE_TEST_CASE("hip attention: sink logits in every mode", "[hip]", ROW_TYPES) {
  problem<TestType> p({70, 4, 2, 64, 64}, 31);
  p.sink_logits                        = {3.0f, -1.0f, -infinity, 2.0f};
  const std::vector<selection> alike   = {tests::random_selection(70, 0.3, 31)};
  const std::vector<selection> of_each = {tests::random_selection(70, 0.3, 31), tests::random_selection(70, 0.2, 32)};
  for (const auto& mode : tests::sample(device_modes())) {
    CAPTURE(mode.name);
    check_close<TestType>(mode.options, p, alike, 31);
    if (needs_selections(mode.options)) check_close<TestType>(mode.options, p, of_each, 31);
  }
}

TEST_CASE("hip attention: a sink logit of minus infinity is none, of infinity all, of NaN its head's alone", "[hip]") {
  problem<bfloat16> p({70, 4, 2, 64, 64}, 9);
  const auto        chosen = tests::random_selection(70, 0.3, 4);
  for (const auto& mode : tests::sample(device_modes())) {
    CAPTURE(mode.name);
    p.sink_logits         = {};
    const auto none       = attend_on_device<float>(mode.options, p, {chosen}, 33);
    p.sink_logits         = {-infinity, -infinity, -infinity, -infinity};
    const auto as_none    = attend_on_device<float>(mode.options, p, {chosen}, 33);
    p.sink_logits[1]      = infinity;
    const auto everything = attend_on_device<float>(mode.options, p, {chosen}, 33);
    p.sink_logits[1]      = std::nanf("");
    const auto odd        = attend_on_device<float>(mode.options, p, {chosen}, 33);
    CHECK(tests::same_bits(none, as_none));
    // Where leaves open for all heads of a group, both sinks of the other head ask for nothing.
    CHECK((mode.options.open == opening::by_mass || tests::same_bits(none, odd, 0, 64)));
    for (index_t t = 0; t < 70; ++t)
      for (index_t h = 0; h < 4; ++h)
        for (index_t c = 0; c < 64; ++c) {
          const auto i = tests::row_of(p.size, t, h) + static_cast<std::size_t>(c);
          REQUIRE((odd[i] != odd[i]) == (h == 1));
          REQUIRE((h == 1 ? everything[i] == 0 : odd[i] == everything[i]));
        }
  }
}

namespace {

/// What takes slopes: near keys alone.
const std::vector<attention_options> sloped = {
    {.keys = key_set::all},
    {.keys = key_set::all, .causal = false},
    {.keys = key_set::all, .softcap = 2.0f},
    {.keys = key_set::all, .sliding_window = 37},
    {.keys = key_set::near, .window = 8, .chunk = 24, .sink_tokens = 3},
    {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2, .softcap = 1.0f},
    {.window = 8, .chunk = 16, .open = opening::all},
};

}  // namespace

TEMPLATE_TEST_CASE("hip attention: slopes by distance, of each head its own", "[hip]", ROW_TYPES) {
  problem<TestType> p({150, 4, 2, 64, 64}, 45);
  p.slopes = {0.5f, 0.0625f, 0.01f, -0.02f};
  for (std::size_t i = 0; i < sloped.size(); ++i) {
    CAPTURE(i);
    p.sink_logits = i % 2 == 0 ? std::vector<float>{} : std::vector<float>{1.0f, -1.0f, -infinity, 2.0f};
    check_close<TestType>(sloped[i], p, {random_selection(150, 0.3, 45)}, 45);
  }
}

TEST_CASE("hip attention: slopes, head sizes, results in the type of the rows", "[hip]") {
  const index_t dim = GENERATE(128, 256);
  CAPTURE(dim);
  problem<bfloat16> p({75, 3, 1, dim, dim}, 46);
  p.slopes = {0.25f, 0.03f, 0.0f};
  check_close<bfloat16, bfloat16>({.keys = key_set::all}, p, {}, 46);
  check_close<bfloat16>({.keys = key_set::near, .window = 8, .chunk = 24, .sink_tokens = 3, .softcap = 2.0f}, p, {},
                        47);
}

TEST_CASE("hip attention: slopes of zero are none, and where leaves are they are refused", "[hip]") {
  problem<bfloat16> p({70, 2, 1, 64, 64}, 47);
  const auto        none = attend_on_device<float>({.keys = key_set::all, .softcap = 1e30f}, p, {}, 47u);
  p.slopes               = {0, 0};
  const auto zero        = attend_on_device<float>({.keys = key_set::all, .softcap = 1e30f}, p, {}, 47u);
  CHECK(same_bits(none, zero));
  device_heads<bfloat16>                 q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<float>                    out(70, 2, 64);
  device_selection                       chosen(random_selection(70, 0.3, 47));
  const hip::selection_layer             layer = chosen.layer();
  simulator::stream                      where = simulator::seeded(1);
  attention<bfloat16, simulator::stream> attention(closed(), where);
  const status answer = attention(q.view(), {k.view(), v.view()}, layer, out.view(), {.slopes = p.slopes});
  CHECK(answer == status::unsupported);
  CHECK(std::string(message(answer)).starts_with("slopes is not empty with options.keys == near_and_far"));
  CHECK(where.calls->launches == 0);
}

TEST_CASE("hip attention: log-sum-exps of all rows, with sinks and slopes", "[hip]") {
  problem<bfloat16> p({70, 4, 2, 64, 64}, 48);
  p.sink_logits                            = {1.0f, -1.0f, -infinity, 2.0f};
  const std::vector<selection>      chosen = {random_selection(70, 0.3, 48), random_selection(70, 0.2, 49)};
  device_heads<bfloat16>            q(p.q.view()), k(p.k.view()), v(p.v.view());
  std::vector<device_selection>     kept(chosen.begin(), chosen.end());
  std::vector<hip::selection_layer> layers     = {kept[0].layer(), kept[1].layer()};
  const auto                        check_sums = [&](const attention_options& options) {
    const auto          exact = reference::attention(p.input<double>(), assignments(chosen), options);
    device_heads<float> out(70, 4, 64);
    std::vector<float>  sums(70 * 5, 777.0f);
    attention<bfloat16, simulator::stream> attention(options, simulator::seeded(48));
    REQUIRE(attention(q.view(), {k.view(), v.view()}, layers, out.view(),
                                             {.sink_logits = p.sink_logits, .slopes = p.slopes, .log_sum_exp = {sums.data(), 70, 4, 5}}) ==
                                   status::ok);
    CHECK(same_bits(out.packed(), attend_on_device<float>(options, p, chosen, 48)));
    index_t compared = 0;
    for (index_t t = 0; t < 70; ++t)
      for (index_t h = 0; h < 5; ++h) {
        const float sum = sums[static_cast<std::size_t>(t * 5 + h)];
        if (h == 4) REQUIRE(sum == 777);  // beside the rows
        if (h == 4 || margin(exact, static_cast<std::size_t>(t * 2 + h / 2)) < undecided) continue;
        const double expected = exact.log_sum_exp[static_cast<std::size_t>(t * 4 + h)];
        CAPTURE(t, h, sum, expected);
        // Weights have 8 bits, and so have means; a correction is within a hundredth of a nat.
        REQUIRE(std::fabs(sum - expected) <= 0x1p-7 + (detail::has_leaves(options) ? 0.01 : 0.0));
        ++compared;
      }
    CHECK(compared > 200);
  };
  for (const auto& mode : tests::sample(device_modes())) {
    CAPTURE(mode.name);
    check_sums(mode.options);
  }
  p.slopes = {0.5f, 0.0625f, 0.01f, -0.02f};
  for (const attention_options& options : sloped) check_sums(options);
}

TEST_CASE("hip attention: log-sum-exps of a batch", "[hip]") {
  const problem<bfloat16>    p({70, 2, 1, 64, 64}, 50);
  device_heads<bfloat16>     q(p.q.view()), k(p.k.view()), v(p.v.view());
  const std::vector<index_t> offsets = {0, 30, 70};
  const auto                 sums_of = [&](const std::vector<index_t>& of) {
    device_heads<float>                    out(70, 2, 64);
    std::vector<float>                     sums(140, 777.0f);
    attention<bfloat16, simulator::stream> attention({.keys = key_set::all}, simulator::steady(50));
    REQUIRE(attention(q.view(), {k.view(), v.view()}, out.view(),
                                      {.query_offsets = of, .log_sum_exp = {sums.data(), 70, 2, 2}}) == status::ok);
    return sums;
  };
  const auto alone = sums_of({}), batch = sums_of(offsets);
  CHECK(std::equal(batch.begin(), batch.begin() + 60, alone.begin()));
  for (std::size_t h = 0; h < 2; ++h) {  // one key: its logit
    float logit = 0;
    for (index_t c = 0; c < 64; ++c)
      logit += to_float(q.view().row(30, static_cast<index_t>(h))[c]) * to_float(k.view().row(30, 0)[c]) / 8;
    CHECK(std::fabs(batch[60 + h] - logit) < 1e-4f);
  }
  for (const float sum : batch) CHECK(sum != 777);
}

TEST_CASE("hip attention: leaves by ascending first token, and the far fields", "[hip]") {
  const index_t T = GENERATE(1, 70, 300, 600), sinks = GENERATE(0, 1, 5, 300), leaf = GENERATE(1, 3, 16);
  const double  share = GENERATE(0.05, 0.95);  // r / T; more clusters than threads of the block that counts them
  CAPTURE(T, sinks, leaf, share);
  const index_t                     chunk = 32, window = 20;
  const auto                        tokens = static_cast<std::size_t>(T), fields = tokens / chunk + 1;
  device_selection                  chosen(tests::random_selection(T, share, 21));
  std::vector<std::vector<index_t>> expected;
  std::vector<index_t>              growing(tokens, -1);  // the leaf that a cluster's next member goes to
  for (index_t t = sinks; t < T; ++t) {
    index_t& own = growing[static_cast<std::size_t>(chosen.host.rep[static_cast<std::size_t>(t)])];
    if (own < 0 || static_cast<index_t>(expected[static_cast<std::size_t>(own)].size()) == leaf)
      own = static_cast<index_t>(expected.size()), expected.emplace_back();
    expected[static_cast<std::size_t>(own)].push_back(t);
  }

  std::vector<index_t> offsets(tokens + 1), members(tokens), far_rows(fields * tokens, -1), far_count(fields, -1);
  std::vector<index_t> far_sizes(fields * tokens, -1);
  std::vector<hip::attention::leaf_range> formed(tokens), ranges(tokens);
  index_t                                 count = -1;
  std::mt19937                            random(static_cast<unsigned>(T + sinks + leaf));
  const hip::attention::cluster_memory    clusters = {offsets.data(), members.data()};
  const hip::attention::leaf_memory       leaves   = {.formed    = formed.data(),
                                                      .ranges    = ranges.data(),
                                                      .count     = &count,
                                                      .far_rows  = far_rows.data(),
                                                      .far_count = far_count.data(),
                                                      .far_sizes = far_sizes.data()};
  simulator::launch(hip::attention::cluster_offsets{chosen.layer(), clusters}, random);
  simulator::launch(hip::attention::cluster_members{chosen.layer(), clusters, T}, random);
  simulator::launch(hip::attention::form_leaves{chosen.layer(), clusters, leaves, T, sinks, leaf}, random);
  simulator::launch(hip::attention::list_leaves{chosen.layer(), leaves, T}, random);
  simulator::launch(hip::attention::list_far_rows{clusters, leaves, T, chunk, window, (T - 1) / chunk + 1}, random);

  REQUIRE(count == static_cast<index_t>(expected.size()));
  for (std::size_t j = 0; j < expected.size(); ++j) {
    CAPTURE(j);
    const auto range = ranges[j];
    CHECK(std::vector<index_t>(members.begin() + range.begin, members.begin() + range.end) == expected[j]);
  }
  for (index_t c = 0; c * chunk < T; ++c) {
    const index_t edge  = std::max(0, c * chunk - window);
    const auto    field = static_cast<std::size_t>(c);
    index_t       older = 0;  // leaves; the first ones, as they ascend
    for (std::size_t j = 0; j < expected.size(); ++j) {
      const auto members_of =
          std::count_if(expected[j].begin(), expected[j].end(), [&](index_t i) { return i < edge; });
      if (members_of == 0) continue;
      CHECK(far_rows[field * tokens + j] == ranges[j].begin + members_of - 1);
      CHECK(far_sizes[field * tokens + j] == members_of);
      ++older;
    }
    CHECK(far_count[field] == older);
  }
}

TEMPLATE_TEST_CASE("hip attention: means and variances of leaves are sums in token order", "[hip]", ROW_TYPES) {
  const index_t dim = GENERATE(64, 128, 256), heads = GENERATE(1, 3), moments = GENERATE(1, 2, 4), T = 45;
  CAPTURE(dim, heads, moments);
  problem<TestType> p({T, heads, heads, dim, dim}, 23);
  for (index_t t = 0; t < T; ++t)  // far from zero, and near to each other
    for (index_t c = 0; c < dim; ++c)
      p.k.view().row(t, 0)[c] = from_float<TestType>(1000 + 4 * to_float(p.k.view().row(t, 0)[c]));
  device_heads<TestType>                  k(p.k.view());
  std::vector<index_t>                    offsets = {0, T}, members(static_cast<std::size_t>(T));
  std::vector<hip::attention::leaf_range> ranges  = {{0, 16}, {16, 32}, {32, 33}, {33, T}};
  auto                                    count   = static_cast<index_t>(ranges.size());
  for (index_t t = 0; t < T; ++t) members[static_cast<std::size_t>(t)] = (t * 7) % T;
  const std::size_t          rows = static_cast<std::size_t>(T * heads);
  device_heads<TestType>     means(T * heads, 1, dim - 8);  // stride dim
  std::vector<std::uint16_t> variances(rows * hip::attention::variance_parts, 0xffff);
  std::mt19937               random(24);
  simulator::launch(hip::attention::leaf_means<TestType>{{offsets.data(), members.data()},
                                                         {nullptr, ranges.data(), &count, nullptr, nullptr},
                                                         k.view(),
                                                         means.view().data,
                                                         variances.data(),
                                                         moments},
                    random);
  for (const auto& range : ranges)
    for (index_t h = 0; h < heads; ++h)
      for (index_t m = range.begin; m < range.end; ++m) {
        CAPTURE(range.begin, h, m);
        const index_t       row = h * T + m, size = m - range.begin + 1;
        std::vector<double> of_group(hip::attention::most_groups);
        const auto          key = [&](index_t i, index_t c) {
          return to_float(p.k.view().row(members[static_cast<std::size_t>(i)], h)[c]);
        };
        bool same = true;
        for (index_t c = 0; c < dim; ++c) {
          float  sum   = 0;
          double exact = 0, square = 0;
          for (index_t i = range.begin; i <= m; ++i) sum += key(i, c), exact += double{key(i, c)} / size;
          for (index_t i = range.begin; i <= m; ++i) square += (key(i, c) - exact) * (key(i, c) - exact);
          same = same &&
                 means.view().data[row * dim + c].bits == from_float<TestType>(sum / static_cast<float>(size)).bits;
          of_group[static_cast<std::size_t>(c * moments / dim)] += square / size / (dim / moments);
        }
        CHECK(same);
        for (std::size_t g = 0; g < hip::attention::most_groups; ++g) {
          const std::uint16_t* parts = variances.data() + row * hip::attention::variance_parts;
          const float got = to_float(bfloat16{parts[g]}) + to_float(bfloat16{parts[g + hip::attention::most_groups]});
          CHECK(std::fabs(got - of_group[g]) <= 1e-4 * of_group[g]);  // of one member, or of no group: zero
        }
      }
}

TEST_CASE("hip attention: a correction within a hundredth of a nat", "[hip]") {
  // Each head's last token sees one leaf of values 0 and its own value, 1: its output tells the leaf's logit.
  const index_t    moments = GENERATE(1, 2, 4), heads = 40;
  const float      scale = GENERATE(0.08f, 0.25f, 0.3f);
  problem<float16> p({17, heads, 1, 64, 64}, 25);
  for (index_t t = 0; t < 17; ++t)
    for (index_t c = 0; c < 64; ++c) p.v.view().row(t, 0)[c] = from_float<float16>(t < 16 ? 0.0f : 1.0f);
  for (index_t c = 0; c < 64; ++c) p.k.view().row(16, 0)[c] = from_float<float16>(0.0f);
  const attention_options options =
      closed({.window = 0, .chunk = 1, .sink_tokens = 0, .moments = moments, .scale = scale});
  const selection one(std::vector<index_t>(17, 0));
  const auto      exact   = reference::attention(p.input<double>(), {one.rep}, options).out;
  const auto      without = [&] {
    auto none    = options;
    none.moments = std::nullopt;
    return reference::attention(p.input<double>(), {one.rep}, none).out;
  }();
  const auto ours  = attend_on_device<float>(options, p, {one}, 25);
  const auto logit = [](double share) { return std::log((1 - share) / share); };
  for (index_t h = 0; h < heads; ++h) {
    const auto place = static_cast<std::size_t>((16 * heads + h) * 64);
    CHECK(logit(exact[place]) - logit(without[place]) > 0.05);
    CHECK(std::fabs(logit(ours[place]) - logit(exact[place])) < 0.01);
  }
}

TEST_CASE("hip attention: near + far is dense where nothing is far, or all leaves open", "[hip]") {
  const auto options =
      GENERATE(closed({.window = 64, .chunk = 32}), closed({.window = 8, .chunk = 16, .sink_tokens = 90}),
               closed({.chunk = std::numeric_limits<index_t>::max()}),
               attention_options{.window = 8, .chunk = 16, .open = opening::all});
  const problem<bfloat16> p({90, 2, 1, 64, 64}, 4);
  const auto              chosen = tests::random_selection(90, 0.2, 4);
  const auto              dense  = attend_on_device<float>({.keys = key_set::all}, p, {chosen}, 9);
  const auto              near   = attend_on_device<float>(options, p, {chosen}, 9);
  REQUIRE(dense.size() == near.size());
  double worst = 0;  // not bit for bit here: the simulator adds in an order of its own for each block
  for (std::size_t i = 0; i < dense.size(); ++i) worst = tests::larger(worst, std::fabs(double{dense[i]} - near[i]));
  CHECK(worst < 1e-2);
}

TEST_CASE("hip attention: later tokens change nothing before them", "[hip]") {
  const auto cut    = GENERATE(1, 33, 64);
  const auto chosen = tests::random_selection(80, 0.3, 6);
  for (const auto& mode : tests::sample(device_modes())) {
    if (!mode.options.causal) continue;
    CAPTURE(mode.name, cut);
    problem<bfloat16> p({80, 2, 1, 64, 64}, 6);
    const auto        before = attend_on_device<float>(mode.options, p, {chosen}, 11);
    p.randomise(77, cut);
    for (index_t t = cut; t < 80; ++t)  // scores that rise where those before do not
      for (index_t c = 0; c < 128; ++c) {
        bfloat16& x = p.q.view().row(t, 0)[c];
        x           = from_float<bfloat16>(16 * to_float(x));
      }
    const auto after = attend_on_device<float>(mode.options, p, {chosen}, 11);
    CHECK(tests::same_bits(before, after, 0, static_cast<std::size_t>(cut) * 128));
    CHECK_FALSE(tests::same_bits(before, after));
  }
}

TEST_CASE("hip attention: where tokens join or open clusters changes nothing before", "[hip]") {
  // The same tokens with another selection from token 50 on.
  const auto one = tests::random_selection(80, 0.3, 6);
  auto       rep = one.rep;
  for (std::size_t t = 50; t < 80; ++t) rep[t] = one.rep[t] == static_cast<index_t>(t) ? 0 : static_cast<index_t>(t);
  for (std::size_t t = 50; t < 80; ++t) rep[t] = rep[static_cast<std::size_t>(rep[t])];
  const problem<bfloat16> p({80, 2, 1, 64, 64}, 6);
  for (const auto& mode : tests::sample(device_modes())) {
    if (!mode.options.causal) continue;
    CAPTURE(mode.name);
    const auto as_is = attend_on_device<float>(mode.options, p, {one}, 12);
    const auto other = attend_on_device<float>(mode.options, p, {selection(rep)}, 12);
    double     worst = 0;  // not bit for bit: the simulator's blocks draw their orders of sums anew
    for (std::size_t i = 0; i < 50 * 128; ++i) worst = tests::larger(worst, std::fabs(double{as_is[i]} - other[i]));
    CHECK(worst < 1e-2);
  }
}

TEST_CASE("hip attention: ragged batches", "[hip]") {
  const auto                 options = closed({.window = 8, .chunk = 16});
  const problem<bfloat16>    p({60, 2, 1, 64, 64}, 8);
  const std::vector<index_t> offsets = {0, 25, 25, 60};
  const auto                 a = tests::random_selection(25, 0.3, 1), b = tests::random_selection(35, 0.3, 2);
  const auto together = attend_on_device<float>(options, p, {a, tests::identity_selection(0), b}, 3, offsets);

  problem<bfloat16> last({35, 2, 1, 64, 64}, 8);
  for (auto [to, from] : {std::pair{&last.q, &p.q}, {&last.k, &p.k}, {&last.v, &p.v}})
    for (index_t t = 0; t < 35; ++t)
      for (index_t h = 0; h < to->view().heads; ++h) std::copy_n(from->view().row(t + 25, h), 64, to->view().row(t, h));
  const auto exact = reference::attention(last.input<double>(), {b.rep}, options).out;
  REQUIRE(together.size() == 60 * 128);
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK(std::fabs(together[25 * 128 + i] - exact[i]) < 0.05);
}

TEST_CASE("hip attention: one allocation for a shape, and no call waits", "[hip]") {
  const auto options =
      GENERATE(closed({.window = 8, .chunk = 16}), closed({.queries = query_set::grouped, .window = 8, .chunk = 16}));
  simulator::stream                      where = simulator::seeded(2);
  attention<bfloat16, simulator::stream> attention(options, where);
  device_selection                       chosen(tests::random_selection(70, 0.3, 2));
  const hip::selection_layer             kept = chosen.layer();
  for (unsigned layer = 0; layer < 3; ++layer) {
    const problem<bfloat16>    p({70, 2, 1, 64, 64}, layer);
    device_heads<bfloat16>     q(p.q.view()), k(p.k.view()), v(p.v.view());
    device_heads<float>        out(70, 2, 64);
    const strided_kv<bfloat16> kv = {k.view(), v.view()};
    REQUIRE(attention(q.view(), kv, kept, out.view()) == status::ok);
    CHECK(where.calls->allocations == 1);
  }
  CHECK(where.calls->waits == 0);
}

TEST_CASE("hip attention: one selection is a span of one, and none is an empty one", "[hip]") {
  const problem<bfloat16>      p({60, 2, 1, 64, 64}, 8);
  device_heads<bfloat16>       q(p.q.view()), k(p.k.view()), v(p.v.view());
  const strided_kv<bfloat16>   kv = {k.view(), v.view()};
  const std::vector<selection> s  = {tests::random_selection(60, 0.3, 2)};
  device_selection             chosen(s[0]);
  const hip::selection_layer   layer = chosen.layer();
  for (const key_set keys : {key_set::all, key_set::near_and_far}) {
    const auto                             options  = closed({.keys = keys, .window = 8, .chunk = 16});
    const auto                             expected = attend_on_device<float>(options, p, s, 3);
    attention<bfloat16, simulator::stream> alone(options, simulator::seeded(3)), dense(options, simulator::seeded(3));
    device_heads<float>                    with_one(60, 2, 64), with_none(60, 2, 64);
    REQUIRE(alone(q.view(), kv, layer, with_one.view(), {.query_offsets = {}}) == status::ok);
    CHECK(with_one.packed() == expected);
    if (keys != key_set::all) continue;
    REQUIRE(dense(q.view(), kv, with_none.view(), {.query_offsets = {}}) == status::ok);
    CHECK(with_none.packed() == expected);
  }
}

TEST_CASE("hip attention: a failed selection writes nothing", "[hip]") {
  const problem<bfloat16> p({20, 1, 1, 64, 64}, 8);
  device_heads<bfloat16>  q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<float>     out(20, 1, 64);
  device_selection        failed(tests::identity_selection(20));
  failed.count                                 = -1;
  const strided_kv<bfloat16>             kv    = {k.view(), v.view()};
  const hip::selection_layer             layer = failed.layer();
  attention<bfloat16, simulator::stream> attention(closed({.window = 4, .chunk = 8}), simulator::seeded(1));
  REQUIRE(attention(q.view(), kv, layer, out.view()) == status::ok);
  for (const float x : out.packed()) CHECK(x != x);
}

TEST_CASE("hip attention: a set that its owner has replaced is refused, and nothing put on the stream", "[hip]") {
  using walking = cascade<bfloat16, simulator::stream>;
  const problem<bfloat16>           p({40, 1, 1, 64, 64}, 8);
  device_heads<bfloat16>            q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<float>               out(40, 1, 64);
  const matrix_view<const bfloat16> x       = {q.view().data, 40, 64, q.view().token_stride};
  const auto                        refused = [&](const hip::selection_layer& view) {
    simulator::stream                      where = simulator::seeded(1);
    attention<bfloat16, simulator::stream> attend(closed({.window = 4, .chunk = 8}), where);
    const status                           answer = attend(q.view(), {k.view(), v.view()}, view, out.view());
    CHECK((answer == status::ok) == (where.calls->launches > 0));
    if (answer == status::ok) return false;
    CHECK(answer == status::invalid_representatives);
    CHECK(std::string(message(answer)) ==
                                 "selections has a view of a set that its owner has replaced: call kept() again");
    return true;
  };

  selector<bfloat16, simulator::stream> select;
  REQUIRE(select(x) == status::ok);
  const auto selected = select.kept();
  CHECK_FALSE(refused(selected));
  REQUIRE(select(x) == status::ok);
  CHECK(refused(selected));
  CHECK_FALSE(refused(select.kept()));

  walking walk, branch;
  REQUIRE(walk.step(x) == status::ok);
  const auto first = walk.kept();
  REQUIRE(walk.fork(branch) == status::ok);
  walking other(std::move(walk));
  CHECK_FALSE(refused(first));
  const auto branched = branch.kept();
  REQUIRE(other.step(x) == status::ok);
  CHECK(refused(first));
  CHECK_FALSE(refused(branched));
  const auto                second = other.kept();
  hip::downloaded_selection host;
  REQUIRE(other.download(host) == status::ok);
  CHECK_FALSE(refused(second));
  REQUIRE(other.inherit(host.view()) == status::ok);
  CHECK(refused(second));
  const auto inherited = other.kept();
  CHECK_FALSE(refused(inherited));
  CHECK(inherited.tokens() == 40);
  other.reset();
  CHECK(other.kept().tokens() == 0);
  CHECK(refused(inherited));
  REQUIRE(other.step(x) == status::ok);
  REQUIRE(other.fork(branch) == status::ok);
  CHECK(refused(branched));
  const auto last = other.kept();
  {
    const walking gone(std::move(other));
    CHECK_FALSE(refused(last));
  }
  CHECK(refused(last));
}

TEST_CASE("hip attention: what the device does not take, each with its sentence", "[hip]") {
  const problem<bfloat16>    p({20, 1, 1, 64, 64}, 8);
  device_heads<bfloat16>     q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<float>        out(20, 1, 64);
  device_selection           chosen(tests::identity_selection(20));
  const strided_kv<bfloat16> kv    = {k.view(), v.view()};
  const hip::selection_layer layer = chosen.layer();
  using operands                   = std::pair<heads_view<const bfloat16>, strided_kv<bfloat16>>;
  std::vector<status> answers;
  const auto          with = [&](const attention_options& options) {
    attention<bfloat16, simulator::stream> attention(options);
    answers.push_back(attention(q.view(), kv, layer, out.view()));
  };
  const auto without = [&](auto spoil) {
    operands given = {q.view(), kv};
    auto     to    = out.view();
    spoil(given, to);
    attention<bfloat16, simulator::stream> attention(closed());
    answers.push_back(attention(given.first, given.second, layer, to));
  };
  with(closed({.moments = 3}));
  with(closed({.summaries = summary_type::bfloat16}));
  without([](operands& given, auto& to) {
    given.first.dim = given.second.keys.dim = given.second.values.dim = to.dim = 32;
  });
  without([](operands& given, auto& to) { given.second.values.dim = to.dim = 32; });
  without([](operands& given, auto&) { given.first.data += 1; });
  without([](operands& given, auto&) { given.second.keys.token_stride += 4; });
  without([](operands& given, auto&) { given.second.values.head_stride += 4; });
  without([](operands& given, auto&) { given.first.token_stride = 1 << 26; });
  without([](operands& given, auto&) { given.second.keys.token_stride = 1 << 26; });
  without([](operands& given, auto&) { given.second.values.token_stride = 1 << 26; });
  without([](operands& given, auto& to) { given.first.heads = to.heads = 2, given.first.head_stride = 0; });
  without([](operands& given, auto& to) {
    given.first.heads = to.heads = given.second.keys.heads = given.second.values.heads = 2;
    given.second.keys.head_stride                                                      = 0;
  });
  without([](operands& given, auto& to) {
    given.first.heads = to.heads = given.second.keys.heads = given.second.values.heads = 2;
    given.second.values.head_stride                                                    = 0;
  });
  std::set<std::string> sentences;
  for (const status answer : answers) {
    CHECK(answer == status::unsupported_by_device);
    sentences.insert(message(answer));
  }
  CHECK(sentences.size() == answers.size());
  CHECK(std::string(message(answers[0])).starts_with("options.moments"));

  attention<bfloat16, simulator::stream> attention(closed());
  const status                           none = attention(q.view(), kv, out.view());
  CHECK(none == status::invalid_representatives);
  CHECK(std::string(message(none)).starts_with("selections is empty"));
  const std::vector<hip::selection_layer> layers(2, chosen.layer());  // one sequence with one KV head
  CHECK(attention(q.view(), kv, layers, out.view()) == status::invalid_representatives);
  hip::selection_layer longer = layer;
  ++longer.length;
  const status as_long = attention(q.view(), kv, longer, out.view());
  CHECK(as_long == status::invalid_representatives);
  CHECK(std::string(message(as_long)) == "selections has one that is not as long as its sequence");
  for (const float x : out.packed()) CHECK(x != x);  // untouched

  answers.clear();
  with({.moments = 3, .open = opening::all});  // makes no leaves
  with({.leaves = leaf_formation::by_keys, .open = opening::none});
  with({.keys = key_set::near, .moments = 3});
  for (const status answer : answers) CHECK(answer == status::ok);
}
