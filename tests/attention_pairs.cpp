// bfloat16 rows by every kind of product that the target has: what holds bit for bit, whatever the tiles share.

#include <cmath>
#include <limits>
#include <vector>

#include "attention_data.hpp"
#include "catch.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

const attention_options dense = {.keys = key_set::all};

std::size_t row_of(const shape& s, index_t token, index_t head = 0) {
  return (static_cast<std::size_t>(token) * static_cast<std::size_t>(s.heads) + static_cast<std::size_t>(head)) *
         static_cast<std::size_t>(s.value_dim);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, later tokens change nothing before them, whatever they are",
                        "[attention]", product_backends) {
  const mode m = GENERATE(
      filter([](const mode& some) { return strictly_causal(some.options); }, from_range(modes.begin(), modes.end())));
  CAPTURE(m);
  const shape                  size       = {130, 6, 2, 20, 33};
  const std::vector<selection> selections = {random_selection(130, 0.3, 2)};
  const auto                   run        = [&](const problem<bfloat16>& p) {
    return attend<bfloat16>(m.options, p, p.kv(), selections, {}, TestType());
  };
  const auto result = run(problem<bfloat16>(size, 22));
  for (const index_t t : {1, 31, 32, 33, 64, 100, 129}) {
    CAPTURE(t);
    problem<bfloat16> poisoned(size, 22), changed(size, 22), infinite(size, 22);
    poisoned.poison(t);
    changed.randomise(99, t);
    infinite.v.fill([] { return -std::numeric_limits<float>::infinity(); }, t);
    CHECK(same_bits(result, run(poisoned), 0, row_of(size, t)));
    CHECK(same_bits(result, run(infinite), 0, row_of(size, t)));
    const auto other = run(changed);
    CHECK(same_bits(result, other, 0, row_of(size, t)));
    CHECK_FALSE(same_bits(result, other));
  }
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, without far tokens near + far is dense, for any number of threads",
                        "[attention]", product_backends) {
  const index_t                T = kernel::step_keys<TestType, kernel::operand_of<bfloat16, TestType>> + 131;
  const problem<bfloat16>      p({T, 6, 2, 33, 24}, 34);
  const std::vector<selection> s   = {random_selection(T, 0.3, 4)};
  const auto                   run = [&](const attention_options& options) {
    return attend<bfloat16>(options, p, p.kv(), s, {}, TestType());
  };
  const auto expected = run(dense);
  CHECK(same_bits(expected, run({.keys = key_set::near, .window = T, .chunk = 50})));
  CHECK(same_bits(expected, run({.window = T, .chunk = 100, .budget = 4})));
  CHECK(same_bits(expected, run({.window = 16, .chunk = 32, .budget = T})));
  CHECK_FALSE(same_bits(expected, run({.window = 16, .chunk = 32})));
  using threaded = cpu<TestType::instructions, pool_executor<TestType::instructions>>;
  thread_pool<TestType::instructions> pool(3);
  for (const mode& m : modes)
    CHECK(same_bits(run(m.options), attend<bfloat16>(m.options, p, p.kv(), s, {}, threaded{{&pool}})));
}

TEMPLATE_LIST_TEST_CASE("attention: bfloat16, NaN and infinity reach the rows that see them, and no others",
                        "[attention]", product_backends) {
  const shape             size = {100, 4, 2, 8, 8};
  const problem<bfloat16> clean(size, 30);
  const auto run      = [&](const problem<bfloat16>& p) { return attend<float>(dense, p, p.kv(), {}, {}, TestType()); };
  const auto expected = run(clean);
  problem<bfloat16> key = clean, value = clean, infinite = clean;
  key.k.view().row(40, 0)[3]      = from_float<bfloat16>(not_a_number);
  value.v.view().row(40, 0)[3]    = from_float<bfloat16>(not_a_number);
  infinite.v.view().row(40, 0)[3] = from_float<bfloat16>(std::numeric_limits<float>::infinity());
  const auto of_key = run(key), of_value = run(value), of_infinite = run(infinite);
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h)
      for (std::size_t c = 0; c < 8; ++c) {
        CAPTURE(t, h, c);
        const std::size_t i    = row_of(size, t, h) + c;
        const bool        sees = t >= 40 && h < 2;
        const auto same = [&](const std::vector<float>& result) { return same_bits(result, expected, i, i + 1); };
        REQUIRE((sees ? std::isnan(of_key[i]) : same(of_key)));
        REQUIRE((sees && c == 3 ? std::isnan(of_value[i]) : same(of_value)));
        REQUIRE((sees && c == 3 ? std::isinf(of_infinite[i]) : same(of_infinite)));
      }
}
