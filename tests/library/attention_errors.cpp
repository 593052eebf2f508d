// Attention refuses what makes no sense, and leaves the output as it was.

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "attention_refusals.hpp"
#include "catch.hpp"
#include "not_finite.hpp"

using namespace cascada;
using namespace tests;

namespace {

void check_refused(const char* what, status expected, void (*spoil)(call&)) {
  CAPTURE(what);
  call c;
  spoil(c);
  const status answer = c.run();
  CHECK(answer == expected);
  CHECK(std::string(message(answer)) == message(expected));
  CHECK(c.untouched());
}

template <std::size_t N>
void check_refused(const cause (&causes)[N]) {
  for (const cause& one : causes) check_refused(message(one.answer), one.answer, one.spoil);
}

status of(const attention_options& options) {
  call c;
  c.options           = options;
  const status answer = c.run();
  CHECK(answer == check(options));
  CHECK(std::string(message(answer)) == message(check(options)));
  CHECK(c.untouched() == (answer != status::ok));
  return answer;
}

}  // namespace

TEST_CASE("attention: the calls that are spoilt below are right", "[errors]") {
  for (const layout used : {layout::strided, layout::transposed, layout::paged, layout::own}) {
    call c;
    c.used = used;
    CHECK(c.run() == status::ok);
    CHECK_FALSE(c.untouched());
  }
}

TEST_CASE("attention: q and out", "[errors]") { check_refused(of_q_and_out); }
TEST_CASE("attention: keys and values", "[errors]") { check_refused(of_kv); }
TEST_CASE("attention: shapes that do not fit each other", "[errors]") { check_refused(of_shapes); }
TEST_CASE("attention: queries that begin where they cannot", "[errors]") { check_refused(of_beginnings); }
TEST_CASE("attention: what a call asks for and brings along", "[errors]") { check_refused(of_calls); }
TEST_CASE("attention: selections", "[errors]") { check_refused(of_selections); }
TEST_CASE("attention: options", "[errors]") { check_refused(of_options); }

TEST_CASE("attention: no two causes of refusal share a sentence, and none has the sentence of its kind", "[errors]") {
  std::vector<std::string> sentences;
  const auto               collect = [&](const auto& causes) {
    for (const cause& one : causes) {
      call c;
      one.spoil(c);
      sentences.emplace_back(message(c.run()));
    }
  };
  collect(of_q_and_out), collect(of_kv), collect(of_shapes), collect(of_beginnings), collect(of_calls);
  collect(of_selections), collect(of_options);
  for (int code = 0; code <= static_cast<int>(status::device_error); ++code)
    sentences.emplace_back(message(static_cast<status::code>(code)));
  for (std::size_t a = 0; a < sentences.size(); ++a)
    for (std::size_t b = 0; b < a; ++b) {
      CAPTURE(a, b);
      CHECK(sentences[a] != sentences[b]);
    }
}

TEST_CASE("attention: other ways to the same causes", "[errors]") {
  const status number = of_selections[0].answer;
  check_refused("one for two sequences", number, [](call& c) { c.cut(0, 3, T); });
  check_refused("one for no sequences", shape_of("query_offsets does not end at q.tokens"), [](call& c) { c.cut(0); });
  check_refused("an offset past the end", shape_of("query_offsets descends"), [](call& c) { c.cut(0, T + 1, T); });
  check_refused("the second KV head's", selection_of("representatives.rep names a token after the one it stands for"),
                [](call& c) {
                  c.selections.push_back(identity_selection(T));
                  c.selections[1].rep[0] = 1;
                  c.views_               = views(c.selections);
                });
  check_refused("more heads for q than for kv, no multiple", shape_of("q.heads is no multiple of kv.kv_heads()"),
                [](call& c) { c.q.heads = c.out.heads = 1; });
  check_refused("sizes that overflow with tokens",
                {status::too_large,
                 "kv.values.tokens times kv.values.token_stride plus kv.values.heads times kv.values.head_stride "
                 "overflows"},
                [](call& c) {
                  c.q.tokens = c.k.tokens = c.v.tokens = c.out.tokens = huge;
                  c.v.token_stride                                    = std::int64_t{1} << 40;
                });
}

TEST_CASE("attention: the sentence of a caller's own view is passed on", "[errors]") {
  check_refused("own", {status::device_error, "the pages were evicted"},
                [](call& c) { c.used = layout::own, c.own.answer = {status::device_error, "the pages were evicted"}; });
}

TEST_CASE("attention: offsets of no sequences and of no tokens", "[errors]") {
  const auto    none   = [](call& c) { c.q.tokens = c.k.tokens = c.v.tokens = c.out.tokens = c.sums.rows = 0; };
  const index_t zero[] = {0, 0, 0}, one[] = {1};
  for (const std::size_t count : {0u, 1u, 2u, 3u}) {
    CAPTURE(count);
    call c;
    none(c);
    c.offsets = {zero, count};
    c.views_.assign(count == 0 ? 1 : count - 1, {});
    CHECK(c.run() == status::ok);
    c.q.data = nullptr, c.k.data = nullptr, c.v.data = nullptr, c.out.data = nullptr;
    c.q.dim = c.out.dim = 0, c.k.dim = -1, c.v.dim = huge;
    CHECK(c.run() == status::ok);
    CHECK(c.untouched());
    c.views_.resize(5);  // neither 1 to 2 sequences nor 2 to 4 of their KV heads
    CHECK(std::string(message(c.run())) == message(of_selections[0].answer));
  }
  call c;
  none(c);
  c.offsets = one;
  CHECK(std::string(message(c.run())) == "query_offsets does not begin at 0");
  call whole;
  whole.offsets = {zero, std::size_t{0}};  // no offsets, whatever their address
  CHECK(whole.run() == status::ok);
  CHECK_FALSE(whole.untouched());
}

TEST_CASE("attention: selections are not looked at where nothing is selected", "[errors]") {
  for (const key_set keys : {key_set::all, key_set::near}) {
    call c;
    c.options.keys = keys;
    c.views_.clear();
    CHECK(c.run() == status::ok);
  }
}

TEST_CASE("attention: one selection is a span of one, and none is an empty one", "[errors]") {
  const shape                  size = {300, 4, 2, 16, 16};
  const problem<float>         p(size, 5);
  const std::vector<selection> s    = {random_selection(size.tokens, 0.2, 3)};
  const representatives        kept = s[0].view();
  head_rows<float>             out(size.tokens, size.heads, size.value_dim);
  std::vector<float>           sums(static_cast<std::size_t>(size.tokens * size.heads));
  const attention_call         call         = {.log_sum_exp = {sums.data(), size.tokens, size.heads, size.heads}};
  const auto                   went_to_sums = [&] { return std::exchange(sums[7], 0.0f) != 0; };
  const auto                   halves       = [&](auto&& extend) {  // of a sequence that grows
    const index_t half = size.tokens / 2;
    return extend(rows_of(p.q.view(), 0, half), rows_of(out.view(), 0, half)) == status::ok &&
           extend(rows_of(p.q.view(), half, size.tokens), rows_of(out.view(), half, size.tokens)) == status::ok;
  };

  for (const key_set keys : {key_set::all, key_set::near, key_set::near_and_far}) {
    const attention_options              options  = {.keys = keys, .window = 16, .chunk = 32};
    const auto                           expected = attend<float>(options, p, s);
    const auto                           equal    = [&] { return same_bits(out.packed<float>(), expected); };
    attention<float, test_backend>       attention(options);
    attention_state<float, test_backend> with_one, with_none;
    CHECK((attention(p.q.view(), p.kv(), kept, out.view()) == status::ok && equal()));
    CHECK((attention(p.q.view(), p.kv(), kept, out.view(), call) == status::ok && equal() && went_to_sums()));
    out.fill([] { return 0.0f; });
    CHECK(halves([&](auto q, auto to) { return attention.extend(with_one, q, p.kv(), kept, to); }));
    CHECK(equal());

    const bool   needs  = keys == key_set::near_and_far;
    const status answer = attention(p.q.view(), p.kv(), out.view());
    CHECK((answer == status::ok) == !needs);
    if (needs) CHECK(std::string(message(answer)) == message(of_selections[1].answer));
    CHECK(equal());
    out.fill([] { return 0.0f; });
    CHECK(halves([&](auto q, auto to) { return attention.extend(with_none, q, p.kv(), to); }) == !needs);
    CHECK(equal() == !needs);
    if (needs) continue;
    CHECK((attention(p.q.view(), p.kv(), out.view(), call) == status::ok && went_to_sums()));
    CHECK((attention(p.q.view(), p.kv(), {}, out.view(), call) == status::ok && went_to_sums()));
  }

  const index_t                  ends[] = {0, 100, size.tokens};
  attention<float, test_backend> attention;
  const status                   answer = attention(p.q.view(), p.kv(), kept, out.view(), {.query_offsets = ends});
  CHECK(std::string(message(answer)) == message(of_selections[0].answer));
}

TEST_CASE("attention: options out of range", "[errors]") {
  const float nan = not_a_number;
  CHECK(of({.window = -1}) == status::invalid_shape);
  CHECK(of({.chunk = 0}) == status::invalid_shape);
  CHECK(of({.sink_tokens = -1}) == status::invalid_shape);
  CHECK(of({.leaf = 0}) == status::invalid_shape);
  CHECK(of({.moments = 0}) == status::invalid_shape);
  CHECK(of({.tile = 0}) == status::invalid_shape);
  CHECK(of({.chunk = 40, .tile = 16}) == status::invalid_shape);
  CHECK(of({.chunk = 8, .tile = 16}) == status::invalid_shape);
  for (const float scale : {-0.5f, 0.0f, infinity, nan}) CHECK(of({.scale = scale}) == status::invalid_shape);
  CHECK(of({.scale = 3e38f}) == status::too_large);  // in base 2 it overflows
  CHECK(of({.scale = 2e38f}) == status::ok);
  for (const float cap : {-0.5f, 0.0f, infinity, nan}) CHECK(of({.softcap = cap}) == status::invalid_shape);
  CHECK(of({.softcap = 3e38f}) == status::too_large);
  CHECK(of({.softcap = 2e38f}) == status::ok);
  for (const index_t window : {0, -1})
    CHECK(of({.keys = key_set::all, .sliding_window = window}) == status::invalid_shape);
  for (const index_t window : {1, huge}) CHECK(of({.keys = key_set::all, .sliding_window = window}) == status::ok);
  for (const float outside : {0.0f, -0.1f, 1.5f, infinity, nan})
    CHECK(of({.leaf_threshold = outside}) == status::invalid_threshold);
  for (const float outside : {0.0f, -0.1f, 1.0f, infinity, nan})
    CHECK(of({.open_above = outside}) == status::invalid_threshold);
  CHECK(of({.window = huge, .chunk = huge, .sink_tokens = huge, .leaf = huge, .moments = huge, .tile = huge}) ==
        status::ok);
  CHECK(of({.window = 0, .chunk = 1, .sink_tokens = 0, .leaf = 1, .moments = 1, .tile = 1}) == status::ok);
  CHECK(of({.leaf_threshold = 1.0f, .moments = std::nullopt, .open_above = 0x1p-149f}) == status::ok);
}

TEST_CASE("attention: what a mode does not use may have any value within its range", "[errors]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(of({.chunk = 40, .open = opening::none, .tile = 16}) == status::ok);
  CHECK(of({.chunk = 40, .open = opening::all, .tile = 16}) == status::ok);
  CHECK(of({.open = opening::none, .open_above = nan}) == status::ok);
  CHECK(of({.open = opening::all, .open_above = nan}) == status::ok);
  CHECK(of({.leaves = leaf_formation::by_order, .leaf_threshold = nan}) == status::ok);
  for (const key_set keys : {key_set::all, key_set::near})
    CHECK(of({.keys = keys, .chunk = 40, .leaf_threshold = nan, .open_above = nan}) == status::ok);
}

TEST_CASE("attention: every combination of switches is a mode or unsupported", "[errors]") {
  int modes_found = 0;
  for (const key_set keys : every_key_set)
    for (const query_set queries : every_query_set)
      for (const bool causal : {false, true})
        for (const bool weighted : {false, true})
          for (const leaf_formation leaves : every_leaf_formation)
            for (const opening open : every_opening) {
              const attention_options options = {.keys     = keys,
                                                 .queries  = queries,
                                                 .causal   = causal,
                                                 .weighted = weighted,
                                                 .leaves   = leaves,
                                                 .open     = open};
              const status            answer  = of(options);
              CHECK((answer == status::ok || answer == status::unsupported));
              modes_found += answer == status::ok;
            }
  // By both kinds of leaves: near + far with three kinds of opening, and grouped queries, closed. With every kind of
  // leaves and opening, which they do not look at: dense 2, window 1, literal 2, weighted 2, T x r 1.
  CHECK(modes_found == 2 * (3 + 1) + 6 * (2 + 1 + 2 + 2 + 1));
}
