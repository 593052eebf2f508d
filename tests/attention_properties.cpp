// Properties of attention that hold bit for bit: causality, equality with dense, independence of layout, of threads and
// of the rest of a batch.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attention_data.hpp"
#include "catch.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

const attention_options dense         = {.keys = key_set::all};
const attention_options bidirectional = {.keys = key_set::all, .causal = false};

mode any_mode() { return GENERATE(from_range(modes.begin(), modes.end())); }

mode any_causal_mode() {
  return GENERATE(
      filter([](const mode& m) { return strictly_causal(m.options); }, from_range(modes.begin(), modes.end())));
}

std::size_t row_of(const shape& s, index_t token, index_t head = 0) {
  return (static_cast<std::size_t>(token) * static_cast<std::size_t>(s.heads) + static_cast<std::size_t>(head)) *
         static_cast<std::size_t>(s.value_dim);
}

/// V with tokens side by side, NaN between rows.
template <row_scalar Scalar>
struct transposed_copy {
  std::vector<Scalar>         storage;
  transposed_value_kv<Scalar> view;

  explicit transposed_copy(const problem<Scalar>& p) {
    const shape&       s      = p.size;
    const std::int64_t stride = s.tokens + 2, head = stride * s.value_dim + 1;
    storage.assign(static_cast<std::size_t>(head * s.kv_heads), from_float<Scalar>(not_a_number));
    for (index_t t = 0; t < s.tokens; ++t)
      for (index_t h = 0; h < s.kv_heads; ++h)
        for (index_t c = 0; c < s.value_dim; ++c)
          storage[static_cast<std::size_t>(h * head + c * stride + t)] = p.v.view().row(t, h)[c];
    view = {p.k.view(), storage.data(), s.value_dim, head, stride};
  }
};

/// K and V in shuffled blocks of a pool that is larger than needed, NaN where nothing lies.
template <row_scalar Scalar>
struct paged_copy {
  head_rows<Scalar>    keys, values;
  std::vector<index_t> table;
  paged_kv<Scalar>     view;

  paged_copy(const problem<Scalar>& p, index_t block_tokens)
      : keys(pool_tokens(p, block_tokens), p.size.kv_heads, p.size.key_dim),
        values(pool_tokens(p, block_tokens), p.size.kv_heads, p.size.value_dim) {
    for (index_t b = 0; b * block_tokens < p.size.tokens; ++b) table.push_back(b + 1);
    std::shuffle(table.begin(), table.end(), std::mt19937(3));
    for (index_t t = 0; t < p.size.tokens; ++t)
      for (index_t h = 0; h < p.size.kv_heads; ++h) {
        const index_t slot = table[static_cast<std::size_t>(t / block_tokens)] * block_tokens + t % block_tokens;
        std::copy_n(p.k.view().row(t, h), p.size.key_dim, keys.view().row(slot, h));
        std::copy_n(p.v.view().row(t, h), p.size.value_dim, values.view().row(slot, h));
      }
    view = {std::as_const(keys).view(), std::as_const(values).view(), table, block_tokens, p.size.tokens};
  }

  static index_t pool_tokens(const problem<Scalar>& p, index_t block_tokens) {
    return (p.size.tokens / block_tokens + 3) * block_tokens;
  }
};

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

TEST_CASE("attention: look-ahead looks ahead, inside its chunk", "[attention]") {
  const shape                  size       = {130, 2, 1, 16, 16};
  const std::vector<selection> selections = {random_selection(130, 0.1, 3)};
  attention_options            options    = {.queries = query_set::grouped, .window = 16, .chunk = 32};
  const auto                   without    = attend(options, problem<float>(size, 23), selections);
  options.lookahead                       = true;
  const auto     with                     = attend(options, problem<float>(size, 23), selections);
  problem<float> changed(size, 23);
  changed.randomise(98, 90);  // the chunk of 64 .. 95 has a far field
  const auto other = attend(options, changed, selections);
  CHECK_FALSE(same_bits(with, without));
  CHECK_FALSE(same_bits(with, other, row_of(size, 64), row_of(size, 90)));
  CHECK(same_bits(with, other, 0, row_of(size, 64)));
}

TEST_CASE("attention: without far tokens, near + far is dense", "[attention]") {
  const index_t T = GENERATE(1, 64, 65, 130, 300), C = GENERATE(1, 32, 100, 1000);
  const index_t W = T == 1 ? 0 : (T - 1) / C * C;
  CAPTURE(T, C, W);
  const problem<float>         p({T, 4, 2, 20, 12}, 24);
  const std::vector<selection> s        = {random_selection(T, 0.3, 4)};
  const auto                   expected = attend(dense, p, {});
  CHECK(same_bits(expected, attend({.keys = key_set::near, .window = W, .chunk = C}, p, {})));
  CHECK(same_bits(expected, attend({.window = W, .chunk = C}, p, s)));
  CHECK(same_bits(expected, attend({.queries = query_set::grouped, .window = W, .chunk = C}, p, s)));
  CHECK(same_bits(expected, attend({.window = W, .chunk = C, .budget = 4}, p, s)));
  if (W > 0) CHECK_FALSE(same_bits(expected, attend({.window = W - 1, .chunk = C}, p, s)));
}

TEST_CASE("attention: a budget for every far token is dense, row by row", "[attention]") {
  const problem<float>         p({130, 4, 2, 20, 12}, 25);
  const std::vector<selection> s        = {random_selection(130, 0.3, 5)};
  const auto                   expected = attend(dense, p, {});
  CHECK(same_bits(expected, attend({.window = 16, .chunk = 32, .budget = 112}, p, s)));
  CHECK(same_bits(expected, attend({.window     = 16,
                                    .chunk      = 32,
                                    .budget     = std::numeric_limits<index_t>::max(),
                                    .candidates = std::numeric_limits<index_t>::max()},
                                   p, s)));
  // One less: the last chunk, tokens 128 and 129, has 112 far tokens and is refined; the others are dense.
  const auto result = attend({.window = 16, .chunk = 32, .budget = 111}, p, s);
  CHECK(same_bits(expected, result, 0, row_of(p.size, 128)));
  CHECK_FALSE(same_bits(expected, result));
}

TEST_CASE("attention: a near field of everything is dense over several steps of keys, for any number of threads",
          "[attention]") {
  const index_t                T = kernel::step_keys<default_backend> + 131;
  const problem<float>         p({T, 4, 2, 8, 8}, 33);
  const std::vector<selection> s        = {random_selection(T, 0.3, 6)};
  const auto                   expected = attend(dense, p, {});
  CHECK(same_bits(expected, attend({.window = T, .chunk = 50}, p, s)));
  CHECK(same_bits(expected, attend({.window = 16, .chunk = 128, .budget = T}, p, s)));
  thread_pool<compiled_isa> pool(3);
  CHECK(same_bits(expected, attend<float>(dense, p, p.kv(), {}, {}, cpu<>{{&pool}})));
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
    CHECK(same_bits(attend(dense, p, {}), attend(options, p, all)));
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
  std::vector<float>         expected;
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
    const auto result = attend(m.options, alone, own);
    expected.insert(expected.end(), result.begin(), result.end());
  }
  CHECK(same_bits(expected, attend<float>(m.options, p, p.kv(), all, offsets)));
}

TEST_CASE("attention: threads do not matter", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  const problem<float>         p({300, 6, 2, 16, 12}, 29);
  const std::vector<selection> s        = {random_selection(300, 0.3, 7)};
  const auto                   expected = attend(m.options, p, s);
  for (const index_t threads : {1, 2, 5}) {
    thread_pool<compiled_isa> pool(threads);
    CHECK(same_bits(expected, attend<float>(m.options, p, p.kv(), s, {}, cpu<>{{&pool}})));
  }
}

TEST_CASE("attention: NaN reaches the rows that see it, and no others", "[attention]") {
  const shape          size = {100, 4, 2, 8, 8};
  const problem<float> clean(size, 30);
  const auto           options  = GENERATE(attention_options{.keys = key_set::all},
                                           attention_options{.keys = key_set::near, .window = 16, .chunk = 32});
  const auto           expected = attend(options, clean, {});
  const auto           end      = options.keys == key_set::all ? 100 : 64;  // the chunk from 64 no longer sees 40

  problem<float> query = clean, key = clean, value = clean;
  query.q.view().row(40, 1)[3] = not_a_number;
  key.k.view().row(40, 0)[3]   = not_a_number;
  value.v.view().row(40, 0)[3] = not_a_number;
  const auto of_query = attend(options, query, {}), of_key = attend(options, key, {}),
             of_value = attend(options, value, {});
  for (index_t t = 0; t < size.tokens; ++t)
    for (index_t h = 0; h < size.heads; ++h)
      for (std::size_t c = 0; c < 8; ++c) {
        CAPTURE(t, h, c);
        const std::size_t i    = row_of(size, t, h) + c;
        const bool        sees = t >= 40 && t < end && h < 2;  // KV head 0 is read by heads 0 and 1
        const auto        is   = [&](const std::vector<float>& result, bool lost) {
          return lost ? std::isnan(result[i]) : same_bits(result, expected, i, i + 1);
        };
        REQUIRE(is(of_query, t == 40 && h == 1));
        REQUIRE(is(of_key, sees));
        REQUIRE(is(of_value, sees && c == 3));
      }
}

TEST_CASE("attention: NaN in an old token reaches every later row of its head through its cluster", "[attention]") {
  const mode m = GENERATE(mode{"near + far", {.window = 16, .chunk = 32}},
                          mode{"grouped", {.queries = query_set::grouped, .window = 16, .chunk = 32}},
                          mode{"refined", {.window = 16, .chunk = 32, .budget = 8, .candidates = 3}});
  CAPTURE(m);
  const shape                  size = {130, 2, 2, 8, 8};
  const std::vector<selection> s    = {random_selection(130, 0.3, 8)};
  problem<float>               p(size, 31);
  const auto                   expected = attend(m.options, p, s);
  p.k.view().row(5, 0)[0]               = not_a_number;
  const auto result                     = attend(m.options, p, s);
  for (index_t t = 0; t < size.tokens; ++t) {
    CHECK(std::isnan(result[row_of(size, t, 0)]) == (t >= 5));
    CHECK(same_bits(result, expected, row_of(size, t, 1), row_of(size, t, 1) + 8));
  }
}

TEST_CASE("attention: no tokens, no work", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  attention<float>              attention(m.options);
  const representatives         none;
  const heads_view<float>       out = {nullptr, 0, 4, 8, 0, 0};
  const heads_view<const float> q   = {nullptr, 0, 4, 16, 0, 0};
  const strided_kv<float>       kv  = {{nullptr, 0, 2, 16, 0, 0}, {nullptr, 0, 2, 8, 0, 0}};
  CHECK(attention(q, kv, {&none, 1}, out) == status::ok);
}

TEST_CASE("attention: an object forgets the call before", "[attention]") {
  const mode m = any_mode();
  CAPTURE(m);
  attention<float> attention(m.options);
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
