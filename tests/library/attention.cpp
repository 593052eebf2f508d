// Attention against the reference in double precision: every mode, every shape that has an edge.

#include <cmath>
#include <string>
#include <vector>

#include "any_mode.hpp"
#include "attention_data.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

struct comparison {
  double ours = 0, plain = 0, largest = 0;
  double sums = 0, plain_sums = 0, largest_sum = 0;  // of log-sum-exps
  int    rows = 0, skipped = 0;
};

/// What the definition says, and what plain loops in float say that multiply the type E.
struct expectation {
  reference::attention_output<double> exact;
  reference::attention_output<float>  plain;
};

template <class E = float, row_scalar Scalar>
expectation expect(const attention_options& options, const problem<Scalar>& p,
                   const std::vector<selection>& selections) {
  return {reference::attention(p.template input<double>(), assignments(selections), options),
          reference::attention(input_rounded_to<E>(p), assignments(selections), options)};
}

/// Largest errors against double, of ours and of the plain loops' results rounded like ours. Rows whose tile has opened
/// a leaf by a hair, or kept it closed, are left out: the next rounding may decide otherwise, rightly.
template <class Out, row_scalar Scalar>
comparison compare(const expectation& expected, const problem<Scalar>& p, const std::vector<float>& result,
                   double narrow, const std::vector<float>& sums = {}) {
  const auto& [exact, plain] = expected;
  REQUIRE(result.size() == exact.out.size());
  comparison  found;
  std::size_t i = 0;
  for (index_t t = 0; t < p.size.tokens; ++t)
    for (index_t h = 0; h < p.size.heads; ++h) {
      const index_t kv_head = h / (p.size.heads / p.size.kv_heads);
      const bool    skip    = margin(exact, static_cast<std::size_t>(t * p.size.kv_heads + kv_head)) < narrow;
      ++found.rows, found.skipped += skip;
      if (const auto row = static_cast<std::size_t>(t * p.size.heads + h); !skip && !sums.empty()) {
        found.sums        = larger(found.sums, std::fabs(sums[row] - exact.log_sum_exp[row]));
        found.plain_sums  = std::max(found.plain_sums, std::fabs(plain.log_sum_exp[row] - exact.log_sum_exp[row]));
        found.largest_sum = std::max(found.largest_sum, std::fabs(exact.log_sum_exp[row]));
      }
      for (index_t c = 0; c < p.size.value_dim; ++c, ++i) {
        if (skip) continue;
        const double rounded = to_float(from_float<Out>(plain.out[i]));
        found.ours           = larger(found.ours, std::fabs(result[i] - exact.out[i]));
        found.plain          = std::max(found.plain, std::fabs(rounded - exact.out[i]));
        found.largest        = std::max(found.largest, std::fabs(exact.out[i]));
      }
    }
  return found;
}

/// FlashAttention's rule: at most twice the error of the plain implementation. The floor: with a key or two the plain
/// sum may happen to be exact; one rounding of weights, of their sum and of the quotient may not. For results of each
/// of the types Outs.
template <class... Outs, row_scalar Scalar, cpu_backend B = test_backend>
void check_close(const attention_options& options, const problem<Scalar>& p, const std::vector<selection>& selections,
                 B where = {}) {
  using E                   = kernel::operand_of<Scalar, B>;
  constexpr bool   pairs    = !std::same_as<E, float>;
  constexpr double narrow   = pairs ? 0.01 : 1e-4;  // nats: means, and products of 16-bit factors, are rounded
  const auto       expected = expect<E>(options, p, selections);
  const auto       check    = [&]<class Out>(std::type_identity<Out>) {
    const auto result = attend_and_report<Out>(options, p, p.kv(), selections, {}, where);
    const auto found  = compare<Out>(expected, p, result.out, narrow, result.log_sum_exp);
    CAPTURE(found.ours, found.plain, found.largest, found.rows, found.skipped, pairs);
    CAPTURE(found.sums, found.plain_sums, found.largest_sum);
    REQUIRE(result.log_sum_exp.size() == static_cast<std::size_t>(found.rows));
    // Weights count as they are rounded: of bfloat16, as the contract says.
    const double rounding =
        pairs ? 0x1p-7 : 4 * std::numeric_limits<float>::epsilon() * std::max(1.0, found.largest_sum);
    CHECK(found.sums <= 2 * found.plain_sums + rounding);
    CHECK(found.ours <= 2 * found.plain + 4 * std::numeric_limits<float>::epsilon() * found.largest);
    // 16-bit factors leave many answers open, and one of them a whole tile: three quarters of the rows are compared.
    CHECK(found.skipped * (pairs ? 4 : 20) <= found.rows);
  };
  (check(std::type_identity<Outs>()), ...);
}

}  // namespace

TEST_CASE("attention: every mode, lengths around the edges of blocks, tiles and chunks", "[attention]") {
  const mode    m        = any_mode();
  const index_t T        = GENERATE(1, 2, 63, 64, 65, 130, 300);
  const index_t kv_heads = GENERATE(1, 2, 4);  // multi-query, grouped, multi-head
  const shape   size     = {T, 4, kv_heads, 16, 24};
  CAPTURE(m, size);
  check_close<float>(m.options, problem<float>(size, 11), {random_selection(T, 0.25, 5)});
}

TEST_CASE("attention: every mode, more keys than a row takes into its softmax at once", "[attention]") {
  const mode    m    = any_mode();
  const index_t T    = kernel::attention::block_keys<test_backend> + 131;
  const shape   size = {T, 2, 1, 8, 8};
  CAPTURE(m, size);
  check_close<float>(m.options, problem<float>(size, 21), {random_selection(T, 0.9, 3)});
}

TEST_CASE("attention: every mode, head dimensions around the width of vectors", "[attention]") {
  const mode m = any_mode();
  const auto [key_dim, value_dim] =
      GENERATE(std::pair{1, 1}, std::pair{3, 5}, std::pair{8, 8}, std::pair{64, 64}, std::pair{65, 33},
               std::pair{96, 128}, std::pair{128, 96}, std::pair{16, 1}, std::pair{1, 65});
  const shape size = {130, 6, 2, key_dim, value_dim};
  CAPTURE(m, size);
  check_close<float>(m.options, problem<float>(size, 12), {random_selection(130, 0.3, 6)});
}

TEMPLATE_TEST_CASE("attention: every mode, rows of two bytes", "[attention]", bfloat16, float16) {
  const mode  m    = any_mode();
  const shape size = {130, 6, 2, 65, 33};
  CAPTURE(m, size);
  const problem<TestType>      p(size, 13);
  const std::vector<selection> selections = {random_selection(130, 0.3, 7)};
  check_close<TestType, float>(m.options, p, selections);
}

TEMPLATE_LIST_TEST_CASE("attention: every mode, bfloat16 by every kind of product", "[attention]", product_backends) {
  const mode  m = any_mode();
  const shape size =
      GENERATE(shape{1, 2, 1, 16, 24}, shape{65, 4, 4, 33, 65}, shape{130, 40, 1, 64, 48}, shape{200, 6, 2, 96, 16});
  CAPTURE(m, size);
  const problem<bfloat16>      p(size, 35);
  const std::vector<selection> selections = {random_selection(size.tokens, 0.3, 7)};
  check_close<bfloat16, float>(m.options, p, selections, TestType());
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, more keys than a row takes into its softmax at once", "[attention]",
                        product_backends) {
  const mode    m    = any_mode();
  const index_t T    = kernel::attention::block_keys<TestType, kernel::operand_of<bfloat16, TestType>> + 131;
  const shape   size = {T, 1, 1, 8, 8};
  CAPTURE(m, size);
  check_close<float>(m.options, problem<bfloat16>(size, 36), {random_selection(T, 0.5, 3)}, TestType());
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, logits and values of every size", "[attention]", product_backends) {
  const float large =
      GENERATE(from_range(sample(std::vector{4.0f, 20.0f, 100.0f})));  // beside rows of small logits, in the same tiles
  const shape size = {kernel::attention::block_keys<TestType> + 80, 2, 1, 32, 16};
  CAPTURE(large);
  problem<bfloat16> p(size, 38);
  for (index_t t = 0; t < size.tokens; t += 3 + t % 50)
    for (index_t c = 0; c < size.key_dim; ++c) {
      const auto grow = [&](bfloat16& x) { x = from_float<bfloat16>(large * to_float(x)); };
      grow(p.q.view().row(t, t % 2)[c]);
      if (t > size.tokens / 2) grow(p.k.view().row(t, 0)[c]);
    }
  check_close<bfloat16>({.keys = key_set::all}, p, {}, TestType());
  p.v.fill([] { return 0x1p42f; }, 100);  // too large for weights that are not relative to their maximum
  check_close<float>({.keys = key_set::all}, p, {}, TestType());
}

TEST_CASE("attention: every mode, with sink logits", "[attention]") {
  const mode  m              = any_mode();
  const float size_of_logits = GENERATE(1.0f, 30.0f);  // beside keys, and far above or below all of them
  const shape size           = {130, 6, 2, 16, 24};
  CAPTURE(m, size_of_logits);
  problem<float> p(size, 51);
  for (const float x : {0.3f, -2.0f, 1.0f, -infinity, 0.0f, 2.5f}) p.sink_logits.push_back(x * size_of_logits);
  check_close<float>(m.options, p, {random_selection(130, 0.25, 5)});
}

TEMPLATE_LIST_TEST_CASE("attention: every mode, bfloat16 with sink logits", "[attention]", product_backends) {
  const mode  m    = any_mode();
  const shape size = {kernel::attention::block_keys<TestType> + 40, 4, 2, 16, 24};
  CAPTURE(m);
  problem<bfloat16> p(size, 52);
  p.sink_logits = {0.7f, 70.0f, -70.0f, -infinity};  // of rows of small logits, and not
  check_close<float>(m.options, p, {random_selection(size.tokens, 0.25, 5)}, TestType());
}

namespace {

/// Modes in which keys have positions.
const std::vector<mode> modes_of_tokens = {
    {"dense", {.keys = key_set::all}},
    {"dense, bidirectional", {.keys = key_set::all, .causal = false}},
    {"dense, softcap", {.keys = key_set::all, .softcap = 2.0f}},
    {"sliding window", {.keys = key_set::all, .sliding_window = 40}},
    {"window", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 3}},
    {"all opened", {.window = 16, .chunk = 32, .open = opening::all}},
};

}  // namespace

TEST_CASE("attention: slopes, wherever keys have positions", "[attention]") {
  const mode    m = GENERATE(from_range(sample(modes_of_tokens)));
  const index_t T = GENERATE(1, 65, kernel::attention::block_keys<test_backend> + 131);
  CAPTURE(m, T);
  problem<float> p({T, 4, 2, 8, 12}, 53);
  p.slopes = {0.5f, 0.004f, 0.0f, 1.0f};
  check_close<float>(m.options, p, {random_selection(T, 0.25, 5)});
  p.sink_logits = {1.0f, 3.0f, -1.0f, 0.0f};
  check_close<float>(m.options, p, {random_selection(T, 0.25, 5)});
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16 with slopes and sink logits", "[attention]", product_backends) {
  const mode  m    = GENERATE(from_range(sample(modes_of_tokens)));
  const shape size = {kernel::attention::block_keys<TestType> + 131, 4, 2, 8, 12};
  CAPTURE(m);
  problem<bfloat16> p(size, 54);
  p.slopes      = {0.5f, 0.004f, 0.0f, 1.0f};
  p.sink_logits = {1.0f, 3.0f, -1.0f, 0.0f};
  check_close<bfloat16>(m.options, p, {random_selection(size.tokens, 0.25, 5)}, TestType());
}

TEST_CASE("attention: a sliding window, around the edges of blocks of keys", "[attention]") {
  const index_t window = GENERATE(from_range(sample(std::vector{1, 63, 64, 65, 128, 511, 512, 513, 700})));
  const index_t T      = kernel::attention::block_keys<test_backend> + 260;
  CAPTURE(window);
  const attention_options options = {.keys = key_set::all, .sliding_window = window};
  check_close<float>(options, problem<float>({T, 2, 1, 8, 8}, 55), {});
  check_close<bfloat16>(options, problem<bfloat16>({T, 2, 1, 8, 8}, 56), {});
}

TEMPLATE_TEST_CASE("attention: the shapes of multi-head latent attention", "[attention]", float, bfloat16, float16) {
  const auto [key_dim, value_dim] = GENERATE(from_range(sample(std::vector{std::pair{192, 128}, std::pair{576, 512}})));
  const bool  absorbed            = key_dim == 576;  // one KV head for all, whose values are the keys' first columns
  const shape size                = {70, 2, absorbed ? 1 : 2, key_dim, value_dim};
  CAPTURE(size);
  problem<TestType> p(size, 57);
  for (index_t t = 0; absorbed && t < size.tokens; ++t)
    std::copy_n(p.k.view().row(t, 0), value_dim, p.v.view().row(t, 0));
  const std::vector<selection> s = {random_selection(size.tokens, 0.25, 5)};
  for (const attention_options& options :
       {attention_options{.keys = key_set::all}, attention_options{.keys = key_set::all, .sliding_window = 33},
        attention_options{.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8}}) {
    CAPTURE(options.keys, options.sliding_window.has_value());
    check_close<TestType>(options, p, s);
    if (!absorbed) continue;
    auto values                        = std::as_const(p.k).view();
    values.dim                         = value_dim;
    const strided_kv<TestType> aliased = {std::as_const(p.k).view(), values};
    CHECK(same_bits(attend<TestType>(options, p, p.kv(), s), attend<TestType>(options, p, aliased, s)));
  }
}

TEST_CASE("attention: tanh is within four ulp, odd, and keeps NaN", "[attention]") {
  using B         = test_backend;
  using V         = kernel::vec<B>;
  const auto ours = [](float x) {
    float lanes[V::width];
    tanh(V::broadcast(x)).store(lanes);
    return lanes[V::width - 1];
  };
  double worst = 0;
  for (float x = 0x1p-120f; x < 20; x = x < 0.01f ? 3 * x : x + 0.00173f)
    worst = larger(worst, std::fabs(ours(x) / std::tanh(static_cast<double>(x)) - 1));
  CHECK(worst <= 4 * std::numeric_limits<float>::epsilon());
  CHECK(ours(0) == 0);
  CHECK(ours(-0.3f) == -ours(0.3f));
  CHECK(ours(-3.0f) == -ours(3.0f));
  CHECK(ours(1e30f) == 1);
  CHECK(ours(-infinity) == -1);
  CHECK(std::isnan(ours(not_a_number)));
}

TEST_CASE("attention: a selection per KV head", "[attention]") {
  const mode  m    = any_mode();
  const shape size = {150, 6, 3, 16, 16};
  CAPTURE(m, size);
  check_close<float>(m.options, problem<float>(size, 14),
                     {random_selection(150, 0.1, 1), random_selection(150, 0.5, 2), random_selection(150, 0.02, 3)});
}

TEST_CASE("attention: more heads in a group than rows in a tile", "[attention]") {
  const mode  m    = any_mode();
  const shape size = {70, 200, 1, 8, 8};
  CAPTURE(m, size);
  check_close<float>(m.options, problem<float>(size, 15), {random_selection(70, 0.3, 4)});
}

TEST_CASE("attention: the scale is an option", "[attention]") {
  mode m           = any_mode();
  m.options.scale  = GENERATE(0.01f, 0.7f);
  const shape size = {100, 2, 1, 16, 16};
  CAPTURE(m, *m.options.scale);
  check_close<float>(m.options, problem<float>(size, 16), {random_selection(100, 0.3, 8)});
}

TEST_CASE("attention: one cluster, and a cluster for every token", "[attention]") {
  const mode    m = any_mode();
  const index_t T = 200;
  CAPTURE(m);
  check_close<float>(m.options, problem<float>({T, 2, 1, 16, 16}, 17), {identity_selection(T)});
  check_close<float>(m.options, problem<float>({T, 2, 1, 16, 16}, 17), {selection(std::vector<index_t>(T, 0))});
}

TEST_CASE("attention: clusters of duplicates lose nothing", "[attention]") {
  const index_t   T = 200;
  problem<float>  p({T, 4, 2, 32, 32}, 18);
  const selection s = random_selection(T, 0.3, 9);
  for (index_t t = 0; t < T; ++t)
    for (auto* rows : {&p.k, &p.v})
      for (index_t g = 0; g < 2; ++g)
        std::copy_n(rows->view().row(s.rep[static_cast<std::size_t>(t)], g), 32, rows->view().row(t, g));
  const auto expected = expect(modes[0].options, p, {});
  for (const attention_options& options : {attention_options{.window = 16, .chunk = 32},
                                           attention_options{.window = 16, .chunk = 32, .open = opening::none}}) {
    const auto found = compare<float>(expected, p, attend(options, p, {s}), 0);
    CHECK(found.ours <= 2 * found.plain + 4 * std::numeric_limits<float>::epsilon() * found.largest);
  }
}

TEMPLATE_TEST_CASE("attention: leaves of one token, and leaves that all open, lose nothing", "[attention]", float,
                   float16) {
  const index_t           T = 200;
  const problem<TestType> p({T, 4, 2, 32, 32}, 39);
  const auto              leaves = GENERATE(leaf_formation::by_order, leaf_formation::by_keys);
  const auto              near   = [&](index_t leaf, opening open, float above) {
    return attention_options{.window         = 16,
                                            .chunk          = 32,
                                            .leaves         = leaves,
                                            .leaf_threshold = 0.1f,
                                            .leaf           = leaf,
                                            .open           = open,
                                            .open_above     = above};
  };
  const selection some = random_selection(T, 0.1, 9), each = identity_selection(T);
  const struct {
    attention_options options;
    selection         chosen;
  } cases[]           = {{near(1, opening::none, 0.1f), some},
                         {near(1, opening::by_mass, 0.1f), some},
                         {near(16, opening::none, 0.1f), each},
                         {near(16, opening::by_mass, 0.1f), each},
                         {near(16, opening::by_mass, 1e-20f), some}};
  const auto expected = expect(modes[0].options, p, {});
  for (const auto& [options, chosen] : cases) {
    CAPTURE(leaves, options.leaf, options.open, options.open_above);
    const auto found = compare<float>(expected, p, attend<float>(options, p, p.kv(), {chosen}), 0);
    CAPTURE(found.ours, found.plain);
    CHECK(found.ours <= 2 * found.plain + 4 * std::numeric_limits<float>::epsilon() * found.largest);
  }
  // The same leaves, closed, do lose.
  const auto lossy = compare<float>(expected, p, attend<float>(near(16, opening::none, 0.1f), p, p.kv(), {some}), 0);
  CHECK(lossy.ours > 1e-2);
}

TEST_CASE("attention: a correction counts 4 nats at most", "[attention]") {
  // Keys 5 and -5 under queries of 1: the second-order term is 12.5.
  problem<float> p({3, 1, 1, 1, 1}, 42);
  p.q.fill([] { return 1.0f; });
  p.k.fill([t = 0]() mutable { return std::vector{5.0f, -5.0f, 0.0f}[static_cast<std::size_t>(t++)]; });
  p.v.fill([t = 0]() mutable { return t++ < 2 ? 1.0f : 0.0f; });
  const attention_options options = {.window      = 0,
                                     .chunk       = 2,
                                     .sink_tokens = 0,
                                     .leaves      = leaf_formation::by_order,
                                     .moments     = 1,
                                     .open        = opening::none,
                                     .scale       = 1.0f};
  const auto              result  = attend(options, p, {selection({0, 0, 0})});
  const double            leaf    = 2 * std::exp(4.0);  // beside a near key whose weight is 1
  REQUIRE(result.size() == 3);
  CHECK(std::fabs(result[2] - leaf / (1 + leaf)) < 1e-6);
}

TEST_CASE("attention: a leaf that weighs more than its tokens leaves no trace when it opens", "[attention]") {
  // Keys vary where queries are zero: all logits are equal, but leaves count 4 nats more than their tokens.
  const index_t  T = 96;
  problem<float> p({T, 2, 1, 2, 8}, 43);
  for (index_t t = 0; t < T; ++t) {
    for (index_t h = 0; h < 2; ++h) p.q.view().row(t, h)[0] = 1, p.q.view().row(t, h)[1] = 0;
    p.k.view().row(t, 0)[0] = 0, p.k.view().row(t, 0)[1] = t % 2 == 0 ? 10.0f : -10.0f;
  }
  const attention_options      options = {.window      = 0,
                                          .chunk       = 16,
                                          .sink_tokens = 0,
                                          .leaves      = leaf_formation::by_order,
                                          .moments     = 1,
                                          .open_above  = 1e-4f,
                                          .scale       = 1.0f};
  const std::vector<selection> one     = {selection(std::vector<index_t>(T, 0))};
  const auto                   found   = compare<float>(expect(modes[0].options, p, {}), p, attend(options, p, one), 0);
  CAPTURE(found.ours, found.plain);
  CHECK(found.ours <= 2 * found.plain + 4 * std::numeric_limits<float>::epsilon() * found.largest);
}

TEST_CASE("attention: logits hundreds of nats apart", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  problem<float> p({150, 4, 2, 16, 16}, 40);
  p.q.fill([random = std::mt19937(41), normal = std::normal_distribution<float>()]() mutable {
    return 100 * normal(random);  // logits of 100 nats and more, either way
  });
  const std::vector<selection> selections = {random_selection(150, 0.1, 10)};
  const auto found = compare<float>(expect(m.options, p, selections), p, attend(m.options, p, selections), 1e-2);
  // A logit of 400 nats is known to half a unit of its last place, however it is summed; kernels count in base 2.
  const double rounding = 400 * std::numeric_limits<float>::epsilon() / 2;
  CAPTURE(found.ours, found.plain, found.largest, found.rows, found.skipped);
  CHECK(found.ours <= 2 * found.plain + rounding * found.largest);
  CHECK(found.skipped * 20 <= found.rows);
}

TEST_CASE("attention: huge logits pick their key", "[attention]") {
  problem<float> p({90, 1, 1, 4, 4}, 19);
  p.q.fill([] { return 1e4f; });
  const auto                   options = GENERATE(modes[0].options, modes[3].options, modes[6].options);
  const std::vector<selection> each    = {identity_selection(90)};
  const double floor = 1e-6;  // of a weight beside the largest; the plain loops' softmax is one-hot as well
  const auto   found = compare<float>(expect(options, p, each), p, attend(options, p, each), 0);
  CAPTURE(found.ours, found.plain);
  CHECK(found.ours <= 2 * found.plain + floor);
}

TEST_CASE("attention: 2^x is within two ulp, exact at 0, and keeps NaN", "[attention]") {
  using B          = test_backend;
  using V          = kernel::vec<B>;
  const auto power = [](float x) {
    float lanes[V::width];
    kernel::exp2(V::broadcast(x)).store(lanes);
    return lanes[V::width - 1];
  };
  double worst = 0;
  for (float x = -125.9f; x < 127; x += 0.00731f)
    worst = larger(worst, std::fabs(power(x) / std::exp2(static_cast<double>(x)) - 1));
  CHECK(worst <= 2 * std::numeric_limits<float>::epsilon());
  CHECK(power(0) == 1);
  CHECK(power(-127) == 0);
  CHECK(power(std::numeric_limits<float>::lowest()) == 0);
  CHECK(power(-infinity) == 0);
  CHECK(std::isnan(power(not_a_number)));
}

TEST_CASE("attention: a row that sees nothing is zero, and its neighbours do not care", "[attention]") {
  using B = test_backend;
  kernel::attention::query_tile<B> memory;
  memory.reserve(4, 8, 8);
  const auto         tile = memory.begin(4, 1, 8, 8);  // four tokens; the first two see nothing
  std::vector<float> keys(8 * kernel::attention::panel_keys<B>, 0.5f),
      scores(kernel::attention::attention_tuning<B>.rows * kernel::attention::block_keys<B>);
  std::vector<float> values(static_cast<std::size_t>(2 * tile.value_stride), 3.0f);
  for (index_t i = 0; i < 32; ++i) tile.queries[i] = 1;
  kernel::attention::attend_block(tile, {.keys = keys.data(), .values = values.data(), .count = 2, .seen = -1},
                                  scores.data());
  for (index_t row = 0; row < 4; ++row) {
    float out[8];
    kernel::attention::write_row(tile, row, 8, out);
    for (const float x : out) CHECK(x == (row < 2 ? 0.0f : 3.0f));
  }
}
