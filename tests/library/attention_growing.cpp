// Sequences that grow: however a sequence is cut into calls, its rows are those of one call, bit for bit.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

std::vector<mode> growing_modes() {
  std::vector<mode> some = modes_that_grow();
  some.push_back({"opened, tiles of a chunk",
                  {.window = 16, .chunk = 32, .leaf_threshold = 0.2f, .open_above = 0.03f, .tile = 32}});
  some.push_back(
      {"opened, tiles of one, more sinks than a chunk",
       {.window = 4, .chunk = 8, .sink_tokens = 11, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 1}});
  return some;
}

/// The selection of the first n tokens.
selection first_of(const selection& all, index_t n) {
  return selection(std::vector<index_t>(all.rep.begin(), all.rep.begin() + n));
}

/// Sequence and attention, cut into calls.
template <class Scalar, cpu_backend B = test_backend>
struct growing {
  const problem<Scalar>&        p;
  const std::vector<selection>& selections;
  attention<Scalar, B>          attend;
  attention_state<Scalar, B>    state = {};
  head_rows<Scalar>             out{p.size.tokens, p.size.heads, p.size.value_dim};
  attention_report              sum = {};

  /// The next tokens, up to `end`. Beyond them, K and V are there but unread; the selection ends with them.
  status extend(index_t end) {
    std::vector<selection> prefixes;
    for (const selection& s : selections) prefixes.push_back(first_of(s, end));
    const status answer = extend_to(end, attend, state, p.q, p.kv(), views(prefixes), out);
    add(attend.report());
    return answer;
  }

  void add(const attention_report& more) {
    sum.rows += more.rows, sum.dense_keys += more.dense_keys, sum.near_keys += more.near_keys;
    sum.leaves += more.leaves, sum.opened += more.opened, sum.far_rows += more.far_rows;
  }

  std::vector<float> results() const { return out.template packed<float>(); }
};

/// `computed` counts whole tiles, and the mass is summed in another order.
bool same_counts(const attention_report& a, const attention_report& b) {
  return a.rows == b.rows && a.dense_keys == b.dense_keys && a.near_keys == b.near_keys && a.leaves == b.leaves &&
         a.opened == b.opened && a.far_rows == b.far_rows;
}

/// Cuts of T tokens: all at once, one by one, and at random.
std::vector<std::vector<index_t>> cuts(index_t T, unsigned seed) {
  std::vector<std::vector<index_t>> all = {{T}, {1, T}, {T / 2, T}, {}};
  for (index_t t = 1; t <= T; ++t) all[3].push_back(t);
  std::mt19937 random(seed);
  for (const unsigned longest : {7u, 90u}) all.push_back(random_ends(T, random, longest));
  return all;
}

const shape growing_shape = {230, 6, 2, 20, 12};

}  // namespace

TEMPLATE_TEST_CASE("growing: however a sequence is cut into calls, its rows are the same", "[attention]", float,
                   bfloat16, float16) {
  const auto all = growing_modes();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  const bool own = GENERATE(false, true);  // selections of each KV head's own
  CAPTURE(m, own);
  const problem<TestType> p(growing_shape, 3);
  std::vector<selection>  s = {random_selection(growing_shape.tokens, 0.15, 4)};
  if (own) s.push_back(random_selection(growing_shape.tokens, 0.4, 5));
  const attended expected = attend_and_report<TestType>(m.options, p, p.kv(), s);
  for (const auto& cut : cuts(growing_shape.tokens, 6)) {
    growing<TestType> one{p, s, attention<TestType, test_backend>(m.options)};
    for (const index_t end : cut) REQUIRE(one.extend(end) == status::ok);
    CAPTURE(cut);
    CHECK(one.state.tokens() == growing_shape.tokens);
    CHECK(same_bits(one.results(), expected.out));
    CHECK(same_counts(one.sum, expected.report));
  }
}

TEST_CASE("growing: after truncating, it goes on as if nothing had been there", "[attention]") {
  const auto all = growing_modes();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const problem<float>         p(growing_shape, 3);
  const std::vector<selection> s        = {random_selection(growing_shape.tokens, 0.15, 4)};
  const auto                   expected = attend<float>(m.options, p, s);
  // Rows and a selection that differ from token 60 on.
  problem<float> other = p;
  other.randomise(99, 60);
  std::vector<selection> others = {random_selection(growing_shape.tokens, 0.3, 14)};
  std::copy_n(s[0].rep.begin(), 60, others[0].rep.begin());
  for (std::size_t t = 60; t < others[0].rep.size(); ++t)
    if (const index_t rep = others[0].rep[t]; others[0].rep[static_cast<std::size_t>(rep)] != rep)
      others[0].rep[t] = static_cast<index_t>(t);
  others[0] = selection(others[0].rep);

  const bool by_mass = m.options.keys == key_set::near_and_far && m.options.open == opening::by_mass;
  for (const index_t reached : {61, 97, 130, 230})
    for (const index_t back : {0, 1, 31, 48, 59, 60}) {
      CAPTURE(reached, back);
      growing<float> branch{other, others, attention<float, test_backend>(m.options)};
      for (index_t t = 7; t < reached; t += 7) REQUIRE(branch.extend(t) == status::ok);
      REQUIRE(branch.extend(reached) == status::ok);
      const status answer = branch.state.truncate(back);
      if (answer != status::ok) {
        // Only within a tile of long ago.
        CHECK(answer == status::unsupported);
        CHECK(by_mass);
        CHECK(back % m.options.tile != 0);
        CHECK(back / m.options.tile + 1 < (reached - 1) / m.options.tile);
        CHECK(branch.state.tokens() == reached);
        continue;
      }
      CHECK(branch.state.tokens() == back);
      growing<float> one{p, s, attention<float, test_backend>(m.options), std::move(branch.state)};
      for (index_t t = back + 9; t < growing_shape.tokens; t += 9) REQUIRE(one.extend(t) == status::ok);
      REQUIRE(one.extend(growing_shape.tokens) == status::ok);
      CHECK(same_bits(one.results(), expected, row_of(growing_shape, back), expected.size()));
    }
}

TEST_CASE("growing: a copy is a sequence of its own", "[attention]") {
  const attention_options      options = growing_modes()[5].options;
  const problem<float>         p(growing_shape, 3);
  const std::vector<selection> s        = {random_selection(growing_shape.tokens, 0.15, 4)};
  const auto                   expected = attend<float>(options, p, s);
  growing<float>               first{p, s, attention<float, test_backend>(options)};
  REQUIRE(first.extend(101) == status::ok);
  problem<float> other = p;
  other.randomise(98, 101);
  growing<float> branch{other, s, attention<float, test_backend>(options), first.state};
  growing<float> fork{other, s, attention<float, test_backend>(options)};
  REQUIRE(first.state.fork(fork.state) == status::ok);
  REQUIRE(fork.state.fork(fork.state) == status::ok);
  REQUIRE(branch.extend(200) == status::ok);
  REQUIRE(fork.extend(200) == status::ok);
  CHECK(same_bits(fork.results(), branch.results()));
  REQUIRE(first.extend(150) == status::ok);
  REQUIRE(first.extend(growing_shape.tokens) == status::ok);
  CHECK(same_bits(first.results(), expected));
  CHECK(branch.state.tokens() == 200);
  CHECK(branch.state.bytes() > 0);

  attention_state<float, test_backend> moved = std::move(branch.state);
  CHECK(moved.tokens() == 200);
  CHECK(branch.state.tokens() == 0);
  moved.clear();
  CHECK(moved.tokens() == 0);
  growing<float> again{p, s, attention<float, test_backend>(options), std::move(moved)};
  REQUIRE(again.extend(growing_shape.tokens) == status::ok);
  CHECK(same_bits(again.results(), expected));
}

TEMPLATE_TEST_CASE("growing: the last queries alone, without a state", "[attention]", float, bfloat16) {
  const auto all = growing_modes();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const problem<TestType>      p(growing_shape, 3);
  const std::vector<selection> s        = {random_selection(growing_shape.tokens, 0.15, 4)};
  const auto                   expected = attend<TestType>(m.options, p, s);
  const bool                   by_mass  = m.options.keys == key_set::near_and_far && m.options.open == opening::by_mass;
  for (const index_t first : {0, 1, 24, 96, 100, 192, 229}) {
    CAPTURE(first);
    head_rows<TestType>               out(growing_shape.tokens, growing_shape.heads, growing_shape.value_dim);
    attention<TestType, test_backend> attend(m.options);
    const status answer = attend(rows_of(std::as_const(p.q).view(), first, growing_shape.tokens), p.kv(), views(s),
                                 rows_of(out.view(), first, growing_shape.tokens));
    if (by_mass && first % m.options.tile != 0) {
      CHECK(answer == status::unsupported);
      continue;
    }
    REQUIRE(answer == status::ok);
    CHECK(same_bits(out.template packed<float>(), expected, row_of(growing_shape, first), expected.size()));
  }
}

TEST_CASE("growing: ragged queries and keys", "[attention]") {
  const auto all = growing_modes();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const problem<float> p(growing_shape, 3);
  // Keys: three sequences, and rows behind them that nobody reads. Queries: the last of the first two, none, all.
  const std::vector<index_t> keys = {0, 110, 140, 210}, firsts = {96, 30, 0};
  std::vector<index_t>       queries = {0};
  std::vector<selection>     s;
  head_rows<float>           q(110 - 96 + 0 + 70, growing_shape.heads, growing_shape.key_dim),
      out(q.view().tokens, growing_shape.heads, growing_shape.value_dim);
  std::vector<float> expected;
  for (std::size_t i = 0; i < 3; ++i) {
    const index_t T = keys[i + 1] - keys[i];
    s.push_back(random_selection(T, 0.2, static_cast<unsigned>(i)));
    for (index_t t = firsts[i]; t < T; ++t)
      for (index_t h = 0; h < growing_shape.heads; ++h)
        std::copy_n(std::as_const(p.q).view().row(keys[i] + t, h), growing_shape.key_dim,
                    q.view().row(queries.back() + t - firsts[i], h));
    queries.push_back(queries.back() + T - firsts[i]);
    head_rows<float>               alone(T, growing_shape.heads, growing_shape.value_dim);
    attention<float, test_backend> attend(m.options);
    const strided_kv<float> kv = {rows_of(p.k.view(), keys[i], keys[i + 1]), rows_of(p.v.view(), keys[i], keys[i + 1])};
    REQUIRE(attend(rows_of(std::as_const(p.q).view(), keys[i], keys[i + 1]), kv, views({s.back()}), alone.view()) ==
            status::ok);
    const auto rows = alone.packed<float>();
    expected.insert(expected.end(), rows.begin() + static_cast<std::ptrdiff_t>(row_of(growing_shape, firsts[i])),
                    rows.end());
  }
  attention<float, test_backend> attend(m.options);
  REQUIRE(attend(std::as_const(q).view(), p.kv(), views(s), out.view(),
                 {.query_offsets = queries, .key_offsets = keys}) == status::ok);
  CHECK(same_bits(out.packed<float>(), expected));
}

TEST_CASE("growing: a batch with padding on the left, and rows behind it", "[attention]") {
  const auto all = growing_modes();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  constexpr index_t    slot = 200, lengths[] = {97, 193, 1};  // whose last tokens begin a tile
  const problem<float> p(
      {3 * slot + 7, growing_shape.heads, growing_shape.kv_heads, growing_shape.key_dim, growing_shape.value_dim}, 3);
  problem<float>         padded = p;
  std::vector<index_t>   ends = {0}, last_queries = {0};
  std::vector<selection> s;
  std::vector<float>     expected, expected_last;
  head_rows<float>       q(3, growing_shape.heads, growing_shape.key_dim),
      out(3 * slot, growing_shape.heads, growing_shape.value_dim),
      last(3, growing_shape.heads, growing_shape.value_dim);
  for (index_t i = 0; i < 3; ++i) {
    const index_t end = (i + 1) * slot, begin = end - lengths[i];
    for (auto* rows : {&padded.q, &padded.k, &padded.v})
      for (index_t t = end - slot; t < begin; ++t)
        for (index_t h = 0; h < rows->view().heads; ++h)
          std::fill_n(rows->view().row(t, h), rows->view().dim, std::numeric_limits<float>::quiet_NaN());
    // Padding is a sequence of its own.
    s.push_back(identity_selection(slot - lengths[i]));
    s.push_back(random_selection(lengths[i], 0.2, static_cast<unsigned>(i)));
    ends.push_back(begin), ends.push_back(end);
    last_queries.push_back(i), last_queries.push_back(i + 1);  // the padding asks nothing
    for (index_t h = 0; h < growing_shape.heads; ++h)
      std::copy_n(std::as_const(p.q).view().row(end - 1, h), growing_shape.key_dim, q.view().row(i, h));

    head_rows<float>               alone(lengths[i], growing_shape.heads, growing_shape.value_dim);
    attention<float, test_backend> attend(m.options);
    const strided_kv<float>        kv = {rows_of(p.k.view(), begin, end), rows_of(p.v.view(), begin, end)};
    REQUIRE(attend(rows_of(std::as_const(p.q).view(), begin, end), kv, views({s.back()}), alone.view()) == status::ok);
    const auto        rows = alone.packed<float>();
    const std::size_t row  = row_of(growing_shape, lengths[i] - 1);
    expected.insert(expected.end(), rows.begin(), rows.end());
    expected_last.insert(expected_last.end(), rows.begin() + static_cast<std::ptrdiff_t>(row), rows.end());
  }
  padded.poison(3 * slot);
  attention<float, test_backend> attend(m.options);
  REQUIRE(attend(rows_of(std::as_const(padded.q).view(), 0, 3 * slot), padded.kv(), views(s), out.view(),
                 {.query_offsets = ends, .key_offsets = ends}) == status::ok);
  std::vector<float> results;
  for (std::size_t i = 0; i < 3; ++i)
    for (index_t t = ends[2 * i + 1]; t < ends[2 * i + 2]; ++t)
      for (index_t h = 0; h < growing_shape.heads; ++h)
        results.insert(results.end(), out.view().row(t, h), out.view().row(t, h) + growing_shape.value_dim);
  CHECK(same_bits(results, expected));
  REQUIRE(attend(std::as_const(q).view(), padded.kv(), views(s), last.view(),
                 {.query_offsets = last_queries, .key_offsets = ends}) == status::ok);
  CHECK(same_bits(last.packed<float>(), expected_last));
}

TEST_CASE("growing: dense attention without causality takes any number of queries and keys", "[attention]") {
  const index_t                  queries = GENERATE(1, 7, 300);
  const shape                    other   = {queries, 6, 2, 20, 12};
  const problem<float>           of_queries(other, 8), of_keys(growing_shape, 9);
  head_rows<float>               out(queries, other.heads, other.value_dim);
  attention<float, test_backend> attend({.keys = key_set::all, .causal = false});
  REQUIRE(attend(std::as_const(of_queries.q).view(), of_keys.kv(), {}, out.view()) == status::ok);
  for (const index_t t : {0, queries / 2, queries - 1})
    for (index_t h = 0; h < other.heads; ++h) {
      std::vector<double> weights;
      double              sum = 0;
      for (index_t j = 0; j < growing_shape.tokens; ++j) {
        double product = 0;
        for (index_t c = 0; c < other.key_dim; ++c)
          product +=
              double{std::as_const(of_queries.q).view().row(t, h)[c]} * double{of_keys.k.view().row(j, h / 3)[c]};
        weights.push_back(std::exp(product / std::sqrt(20.0)));
        sum += weights.back();
      }
      for (index_t c = 0; c < other.value_dim; ++c) {
        double value = 0;
        for (index_t j = 0; j < growing_shape.tokens; ++j)
          value += weights[static_cast<std::size_t>(j)] / sum * double{of_keys.v.view().row(j, h / 3)[c]};
        CHECK(double{out.view().row(t, h)[c]} == Approx(value).margin(1e-5));
      }
    }
}

TEST_CASE("growing: an option that the mode does not look at may be no number", "[attention]") {
  const attention_options      options = {.window         = 16,
                                          .chunk          = 32,
                                          .leaves         = leaf_formation::by_order,
                                          .leaf_threshold = std::numeric_limits<float>::quiet_NaN(),
                                          .open           = opening::none,
                                          .open_above     = -std::numeric_limits<float>::quiet_NaN()};
  const problem<float>         p(growing_shape, 3);
  const std::vector<selection> s = {random_selection(growing_shape.tokens, 0.15, 4)};
  growing<float>               one{p, s, attention<float, test_backend>(options)};
  for (const index_t end : {1, 2, 100, 230}) REQUIRE(one.extend(end) == status::ok);
  CHECK(same_bits(one.results(), attend<float>(options, p, s)));
  attention_options other = options;
  other.leaf_threshold    = 0.5f;
  one.attend              = attention<float, test_backend>(other);
  CHECK(one.state.truncate(100) == status::ok);
  CHECK(one.extend(150) == status::unsupported);
}

TEST_CASE("growing: what is refused leaves the state as it was", "[attention][errors]") {
  const attention_options      options = growing_modes()[4].options;
  const problem<float>         p(growing_shape, 3);
  const std::vector<selection> s        = {random_selection(growing_shape.tokens, 0.15, 4)};
  const auto                   expected = attend<float>(options, p, s);
  growing<float>               one{p, s, attention<float, test_backend>(options)};
  REQUIRE(one.extend(101) == status::ok);

  const auto extend = [&](attention_options with, const std::vector<selection>& given,
                          index_t kv_tokens = growing_shape.tokens, index_t count = 99) {
    attention<float, test_backend> attend(with);
    strided_kv<float>              kv = p.kv();
    kv.keys.tokens = kv.values.tokens = kv_tokens;
    head_rows<float> out(count, growing_shape.heads, growing_shape.value_dim);
    return std::string(message(
        attend.extend(one.state, rows_of(std::as_const(p.q).view(), 101, 101 + count), kv, views(given), out.view())));
  };
  attention_options changed = options;
  changed.open_above        = 0.3f;
  CHECK(extend(changed, s) == "state belongs to attention with other options");
  CHECK(extend(options, s, 150) == "kv.tokens() is less than the state's tokens and those of q");
  CHECK(extend(options, {}) == "selections is empty: options.keys == representatives and leaves need them");
  CHECK(extend(options, {s[0], s[0], s[0]}) == "selections has neither one nor one for each KV head");
  CHECK(extend(options, {s[0], s[0]}) == "selections has another number than before");
  CHECK(extend(options, {first_of(s[0], 120)}) == "selections has one that ends before the last chunk's edge");
  CHECK(extend({.keys = key_set::representatives, .queries = query_set::representatives}, s) ==
        "options.keys == representatives cannot grow: it needs all queries at once");
  CHECK(extend({.queries = query_set::grouped, .open = opening::none}, s) ==
        "options.queries == grouped cannot grow: tokens of a chunk use queries of earlier calls");
  CHECK(extend({.keys = key_set::all, .causal = false}, s) ==
        "options.causal == false cannot grow: old rows would change");
  CHECK(std::string(message(one.state.truncate(-1))) == "tokens is negative");
  CHECK(std::string(message(one.state.truncate(102))) == "tokens is more than the state has");
  CHECK(std::string(message(one.state.truncate(66))) ==
        "tokens lies inside a tile of long ago: only its edges are left");

  auto fewer  = rows_of(std::as_const(p.q).view(), 101, 102);
  fewer.heads = 4;
  head_rows<float>               out(1, 4, growing_shape.value_dim);
  attention<float, test_backend> attend(options);
  CHECK(std::string(message(attend.extend(one.state, fewer, p.kv(), views(s), out.view()))) ==
        "state belongs to another number of query heads");

  attention_state<float, test_backend> of_heads;
  head_rows<float>                     all(growing_shape.tokens, growing_shape.heads, growing_shape.value_dim);
  const std::vector<selection>         second_short = {s[0], first_of(s[0], 120)};
  CHECK(std::string(message(attend.extend(of_heads, p.q.view(), p.kv(), views(second_short), all.view()))) ==
        "selections has one that ends before the last chunk's edge");
  CHECK(of_heads.tokens() == 0);
  CHECK(one.state.tokens() == 101);
  REQUIRE(one.extend(growing_shape.tokens) == status::ok);
  CHECK(same_bits(one.results(), expected));
}

TEST_CASE("growing: a cleared state serves keys and selections of another shape", "[attention]") {
  const attention_options options = growing_modes()[3].options;
  const shape             few = {110, 4, 2, 8, 8}, many = {120, 9, 9, 24, 4};
  const bool              more = GENERATE(false, true);
  const auto              own  = [](const shape& of) {  // a selection for each KV head
    std::vector<selection> all;
    for (index_t h = 0; h < of.kv_heads; ++h) all.push_back(random_selection(of.tokens, 0.3, static_cast<unsigned>(h)));
    return all;
  };
  const shape          first_shape = more ? few : many, second_shape = more ? many : few;
  const problem<float> first(first_shape, 1), second(second_shape, 2);
  const auto           first_selections = own(first_shape), second_selections = own(second_shape);
  growing<float>       one{first, first_selections, attention<float, test_backend>(options)};
  REQUIRE(one.extend(first_shape.tokens) == status::ok);
  one.state.clear();
  growing<float> other{second, second_selections, attention<float, test_backend>(options), std::move(one.state)};
  for (index_t t = 1; t <= second_shape.tokens; ++t) REQUIRE(other.extend(t) == status::ok);
  CHECK(same_bits(other.results(), attend<float>(options, second, second_selections)));
}

TEST_CASE("growing: bytes are those of the tokens there are", "[attention]") {
  attention_options            options = growing_modes()[3].options;
  const problem<float>         p(growing_shape, 3);
  const std::vector<selection> s = {random_selection(growing_shape.tokens, 0.15, 4)};
  growing<float>               one{p, s, attention<float, test_backend>(options)};
  CHECK(one.state.bytes() == 0);
  REQUIRE(one.extend(100) == status::ok);
  const std::size_t some = one.state.bytes();
  REQUIRE(one.extend(growing_shape.tokens) == status::ok);
  CHECK(some > 0);
  CHECK(one.state.bytes() > some);
  one.state.clear();
  CHECK(one.state.bytes() == 0);
  REQUIRE(one.extend(100) == status::ok);
  CHECK(one.state.bytes() == some);

  options.sink_tokens = std::numeric_limits<index_t>::max();  // no leaves
  growing<float> none{p, s, attention<float, test_backend>(options)};
  REQUIRE(none.extend(100) == status::ok);
  CHECK(none.state.bytes() < some);
}

TEST_CASE("growing: no queries leave the state as it was, and an empty report", "[attention]") {
  const attention_options        options = growing_modes()[3].options;
  const problem<float>           p(growing_shape, 3);
  const std::vector<selection>   s = {random_selection(growing_shape.tokens, 0.15, 4)};
  attention<float, test_backend> attend(options);
  growing<float>                 one{p, s, attend};
  REQUIRE(one.extend(100) == status::ok);
  CHECK(one.attend.report().rows > 0);
  REQUIRE(one.extend(100) == status::ok);
  CHECK(one.attend.report() == attention_report{});
  CHECK(one.state.tokens() == 100);

  head_rows<float> out(growing_shape.tokens, growing_shape.heads, growing_shape.value_dim);
  REQUIRE(attend(std::as_const(p.q).view(), p.kv(), views(s), out.view()) == status::ok);
  CHECK(attend.report().rows > 0);
  const auto none = rows_of(std::as_const(p.q).view(), 100, 100);
  REQUIRE(attend(none, p.kv(), views(s), rows_of(out.view(), 0, 0)) == status::ok);
  CHECK(attend.report() == attention_report{});
}

TEST_CASE("growing: room grows by half, as far as sizes go", "[attention]") {
  constexpr index_t largest = std::numeric_limits<index_t>::max();
  CHECK(kernel::half_more(0) == 0);
  CHECK(kernel::half_more(7) == 10);
  CHECK(kernel::half_more(largest / 3 * 2) <= largest);
  CHECK(kernel::half_more(largest / 3 * 2 + 10) == largest);
  CHECK(kernel::half_more(largest) == largest);
}
