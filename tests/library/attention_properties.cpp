// Properties of attention that hold bit for bit: causality, equality with dense, independence of layout, of threads and
// of the rest of a batch.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "any_mode.hpp"
#include "attention_data.hpp"
#include "catch.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

const attention_options bidirectional = {.keys = key_set::all, .causal = false};

mode any_causal_mode() {
  return GENERATE(filter([](const mode& m) { return m.options.causal; }, from_range(sample(modes))));
}

template <row_scalar Scalar>
void check_layouts(const mode& m) {
  const problem<Scalar>        p({130, 6, 2, 20, 33}, 21);
  const std::vector<selection> s      = {random_selection(130, 0.3, 1)};
  const auto                   result = attend(m.options, p, s);
  CHECK(same_bits(result, attend(m.options, problem<Scalar>(p.size, 21, 0), s)));
  CHECK(same_bits(result, attend<Scalar>(m.options, p, transposed_copy<Scalar>(p).view, s)));
  for (const index_t block_tokens : {1, 7, 64}) {
    const paged_copy<Scalar> paged(p, block_tokens);
    CHECK(same_bits(result, attend<Scalar>(m.options, p, paged.view, s)));
  }
}

}  // namespace

TEST_CASE("attention: changing later tokens changes nothing before them", "[attention]") {
  const mode m = any_causal_mode();
  CAPTURE(m);
  const shape                  size       = {130, 4, 2, 16, 16};
  const std::vector<selection> selections = {random_selection(130, 0.3, 2)};
  const auto                   result     = attend(m.options, problem<float>(size, 22), selections);
  for (const index_t t : {1, 16, 31, 32, 33, 63, 64, 65, 100, 129}) {
    CAPTURE(t);
    problem<float> poisoned(size, 22), changed(size, 22);
    poisoned.poison(t);
    changed.randomise(99, t);
    CHECK(same_bits(result, attend(m.options, poisoned, selections), 0, row_of(size, t)));
    const auto other = attend(m.options, changed, selections);
    CHECK(same_bits(result, other, 0, row_of(size, t)));
    CHECK_FALSE(same_bits(result, other));
  }
}

TEST_CASE("attention: without far tokens, near + far is dense", "[attention]") {
  const index_t T = GENERATE(1, 64, 65, 130, 300), C = GENERATE(1, 32, 100, 1000);
  const index_t W = T == 1 ? 0 : (T - 1) / C * C;
  CAPTURE(T, C, W);
  const problem<float>         p({T, 4, 2, 20, 12}, 24);
  const std::vector<selection> s        = {random_selection(T, 0.3, 4)};
  const auto                   expected = attend(dense_options, p, {});
  const auto                   same     = [&](attention_options options) {
    options.window = W, options.chunk = C, options.tile = 1;
    return same_bits(expected, attend(options, p, s));
  };
  CHECK(same({.keys = key_set::near}));
  CHECK(same({}));
  CHECK(same({.open = opening::none}));
  CHECK(same({.queries = query_set::grouped, .open = opening::none}));
  // One token less, which is no sink, and it is not dense.
  if (W > 0) CHECK_FALSE(same_bits(expected, attend({.window = W - 1, .chunk = C, .sink_tokens = 0, .tile = 1}, p, s)));
  if (W > 0)
    CHECK_FALSE(
        same_bits(expected, attend({.keys = key_set::near, .window = W - 1, .chunk = C, .sink_tokens = 0}, p, s)));
}

TEST_CASE("attention: all leaves opened, or a near field of everything, is dense over several steps of keys",
          "[attention]") {
  const index_t                T = kernel::attention::block_keys<test_backend> + 131;
  const problem<float>         p({T, 4, 2, 8, 8}, 33);
  const std::vector<selection> s        = {random_selection(T, 0.3, 6)};
  const auto                   expected = attend(dense_options, p, {});
  CHECK(same_bits(expected, attend({.window = T, .chunk = 48}, p, s)));
  CHECK(same_bits(expected, attend({.window = 16, .chunk = 128, .open = opening::all}, p, s)));
  CHECK(same_bits(expected, attend({.window = 0, .chunk = 1, .sink_tokens = 0, .open = opening::all}, p, s)));
  CHECK(
      same_bits(expected, attend({.window = 16, .chunk = 128, .open = opening::all}, p, {})));  // nobody stands for one
  CHECK_FALSE(same_bits(expected, attend({.window = 16, .chunk = 128}, p, s)));
  thread_pool<compiled_isa> pool(3);
  CHECK(same_bits(expected, attend<float>(dense_options, p, p.kv(), {}, {}, test_backend{{&pool}})));
}

TEST_CASE("attention: with r = T the compressed problem is dense", "[attention]") {
  const index_t T = GENERATE(1, 65, 200);
  CAPTURE(T);
  const problem<float>         p({T, 4, 2, 20, 12}, 26);
  const std::vector<selection> all     = {identity_selection(T)};
  attention_options            options = {.keys = key_set::representatives, .queries = query_set::representatives};
  for (const bool weighted : {false, true}) {
    options.weighted = weighted;
    options.causal   = true;
    CHECK(same_bits(attend(dense_options, p, {}), attend(options, p, all)));
    options.causal = false;
    CHECK(same_bits(attend(bidirectional, p, {}), attend(options, p, all)));
  }
  options.queries = query_set::all;
  CHECK(same_bits(attend(bidirectional, p, {}), attend(options, p, all)));
}

TEST_CASE("attention: tokens of a cluster share the literal output", "[attention]") {
  const problem<float> p({90, 4, 2, 8, 8}, 27);
  const selection      s = random_selection(90, 0.2, 6);
  const auto result      = attend({.keys = key_set::representatives, .queries = query_set::representatives}, p, {s});
  for (index_t t = 0; t < 90; ++t)
    for (std::size_t c = 0; c < 32; ++c)
      CHECK(result[row_of(p.size, t) + c] == result[row_of(p.size, s.rep[static_cast<std::size_t>(t)]) + c]);
}

TEST_CASE("attention: layouts of rows do not matter", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  check_layouts<float>(m);
  check_layouts<bfloat16>(m);
}

TEST_CASE("attention: a batch is its sequences", "[attention]") {
  const mode m        = any_mode();
  const bool per_head = GENERATE(false, true);
  CAPTURE(m, per_head);
  const std::vector<index_t> offsets = {0, 70, 70, 71, 200, 264};
  const problem<float>       p({264, 4, 2, 16, 12}, 28);
  std::vector<selection>     all;
  attended                   expected;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const index_t          T = offsets[s + 1] - offsets[s];
    std::vector<selection> own;
    for (unsigned g = 0; g < (per_head ? 2u : 1u); ++g)
      own.push_back(random_selection(T, 0.3, static_cast<unsigned>(10 * s) + g));
    all.insert(all.end(), own.begin(), own.end());
    problem<float> alone({T, 4, 2, 16, 12}, 0);
    for (auto [from, to] : {std::pair{&p.q, &alone.q}, std::pair{&p.k, &alone.k}, std::pair{&p.v, &alone.v}}) {
      auto packed = from->packed<float>();
      auto next   = packed.begin() + static_cast<std::ptrdiff_t>(packed.size() / 264) * offsets[s];
      to->fill([&] { return *next++; });
    }
    const auto result = attend_and_report<float>(m.options, alone, alone.kv(), own);
    expected.out.insert(expected.out.end(), result.out.begin(), result.out.end());
    add(expected.report, result.report);
  }
  const auto result = attend_and_report<float>(m.options, p, p.kv(), all, offsets);
  CHECK(same_bits(expected.out, result.out));
  CHECK(expected.report == result.report);
}

TEST_CASE("attention: no tokens, no work", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  attention<float, test_backend> attention(m.options);
  const representatives          none;
  const heads_view<float>        out = {nullptr, 0, 4, 8, 0, 0};
  const heads_view<const float>  q   = {nullptr, 0, 4, 16, 0, 0};
  const strided_kv<float>        kv  = {{nullptr, 0, 2, 16, 0, 0}, {nullptr, 0, 2, 8, 0, 0}};
  CHECK(attention(q, kv, none, out) == status::ok);
}

TEST_CASE("attention: an object forgets the call before", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  attention<float, test_backend> attention(m.options);
  for (const shape size :
       {shape{130, 4, 2, 16, 24}, shape{300, 6, 2, 33, 8}, shape{20, 2, 1, 8, 8}, shape{130, 4, 2, 16, 24}}) {
    CAPTURE(size);
    const problem<float>         p(size, 32);
    const std::vector<selection> s = {random_selection(size.tokens, 0.3, 9)};
    head_rows<float>             out(size.tokens, size.heads, size.value_dim);
    REQUIRE(attention(p.q.view(), p.kv(), views(s), out.view()) == status::ok);
    CHECK(same_bits(out.packed<float>(), attend(m.options, p, s)));
  }
}
