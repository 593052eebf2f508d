// After the first call of a shape nothing is allocated, by any thread.

#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "allocation_counter.hpp"
#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr index_t layer_tokens = 300, layer_width = 24;

/// Layers of the same shape whose sets differ in size.
template <class Scalar>
std::vector<token_rows<Scalar>> layers() {
  std::vector<token_rows<Scalar>> all;
  for (const auto k : {kind::clustered, kind::random, kind::duplicates, kind::anti_parallel})
    all.push_back(make_tokens<Scalar>(k, layer_tokens, layer_width, 4));
  return all;
}

/// A view of the first half of the rows: a smaller shape.
template <class Scalar>
matrix_view<const Scalar> half(const token_rows<Scalar>& tokens) {
  auto view = tokens.view();
  view.rows = layer_tokens / 2;
  return view;
}

}  // namespace

TEST_CASE("allocations: the counter counts", "[allocations]") {
  CHECK(allocations_of([] { ::operator delete(::operator new(1)); }) == 1);
  CHECK(allocations_of([] { ::operator delete[](::operator new[](1)); }) == 1);
  CHECK(allocations_of([] { ::operator delete(::operator new(1, std::nothrow)); }) == 1);
  const auto      tokens = make_tokens<float>(kind::random, 10, 3, 1);
  selector<float> select;
  status          answer = status::unsupported;
  CHECK(allocations_of([&] { answer = select(tokens.view()); }) > 1);
  CHECK(answer == status::ok);
}

TEMPLATE_TEST_CASE("allocations: selection", "[allocations]", float, bfloat16) {
  const auto assign = GENERATE(assignment::lowest_index, assignment::nearest);
  CAPTURE(assign);
  const auto         all = layers<TestType>();
  selector<TestType> select({.assign = assign}), literal({.assign = assign});
  REQUIRE(select(all[0].view()) == status::ok);
  REQUIRE(literal.literal(all[0].view()) == status::ok);
  bool       ok    = true;
  const long count = allocations_of([&] {
    for (const auto& tokens : all) {
      ok &= select(tokens.view()) == status::ok && literal.literal(tokens.view()) == status::ok;
      ok &= select(half(tokens)) == status::ok && literal.literal(half(tokens)) == status::ok;
    }
  });
  CHECK(ok);
  CHECK(count == 0);
}

TEMPLATE_TEST_CASE("allocations: cascade", "[allocations]", float, bfloat16) {
  const auto validate = GENERATE(validation::exact, validation::cross_gram);
  CAPTURE(validate);
  const auto        all   = layers<TestType>();
  const auto        state = random_state(layer_tokens, 5);
  cascade<TestType> walk({.validate = validate});
  // The first step selects in full, the second is the first that validates.
  REQUIRE(walk.step(all[0].view()) == status::ok);
  REQUIRE(walk.step(all[1].view()) == status::ok);
  bool       ok    = true;
  const long count = allocations_of([&] {
    for (const auto& tokens : all) ok &= walk.step(tokens.view()) == status::ok;
    ok &= walk.inherit(state.view()) == status::ok && walk.step(all[0].view()) == status::ok;
    walk.reset();
    ok &= walk.step(half(all[0])) == status::ok && walk.step(half(all[1])) == status::ok;
    cascade<TestType> moved = std::move(walk);
    ok &= moved.step(half(all[2])) == status::ok;
  });
  CHECK(ok);
  CHECK(count == 0);
}

TEMPLATE_TEST_CASE("allocations: attention", "[allocations]", float, bfloat16) {
  const auto m = GENERATE(from_range(modes));
  CAPTURE(m);
  const problem<TestType> p({layer_tokens, 4, 2, 16, 8}, 1);
  head_rows<TestType>     out(layer_tokens, 4, 8);
  const selection         few = random_selection(layer_tokens, 0.05, 1), more = random_selection(layer_tokens, 0.6, 2);
  const selection         all = identity_selection(layer_tokens);
  attention<TestType>     attend(m.options);
  const auto              run = [&](const selection& kept) {
    const representatives one = kept.view();
    return attend(p.q.view(), p.kv(), one, out.view()) == status::ok;
  };
  REQUIRE(run(few));
  bool ok = true;
  CHECK(allocations_of([&] { ok = run(more) && run(all) && run(few); }) == 0);
  CHECK(ok);
}

TEST_CASE("allocations: sizes beyond the sequence take no memory", "[allocations]") {
  static constexpr index_t most = std::numeric_limits<index_t>::max();
  const problem<float>     p({layer_tokens, 2, 1, 16, 8}, 1);
  head_rows<float>         out(layer_tokens, 2, 8);
  const selection          kept = random_selection(layer_tokens, 0.3, 1);
  const representatives    one  = kept.view();
  const attention_options  options =
      GENERATE(attention_options{.window = most, .chunk = most, .sink_tokens = most, .leaf = most, .tile = most},
               attention_options{.window = 0, .chunk = 16, .sink_tokens = most, .leaf = most, .moments = most});
  attention<float>       attend(options), growing(options);
  attention_state<float> state;
  const long long        before = allocated_bytes();
  CHECK(attend(p.q.view(), p.kv(), one, out.view()) == status::ok);
  CHECK(growing.extend(state, p.q.view(), p.kv(), one, out.view()) == status::ok);
  const attention_state<float> copied = state;
  CHECK(copied.tokens() == layer_tokens);
  CHECK(allocated_bytes() - before < 1 << 28);
}

TEST_CASE("allocations: a sequence that grows, once there is room", "[allocations]") {
  const auto m = GENERATE(from_range(modes_that_grow()));
  CAPTURE(m);
  const problem<float>   p({layer_tokens, 4, 2, 16, 8}, 1);
  head_rows<float>       out(layer_tokens, 4, 8);
  const selection        kept = random_selection(layer_tokens, 0.3, 1);
  const representatives  one  = kept.view();
  attention<float>       attend(m.options);
  attention_state<float> state;
  const auto             extend = [&](index_t count) {
    auto q  = std::as_const(p.q).view();
    auto to = out.view();
    q.data += state.tokens() * q.token_stride, to.data += state.tokens() * to.token_stride;
    q.tokens = to.tokens = count;
    return attend.extend(state, q, p.kv(), one, to) == status::ok;
  };
  state.reserve(layer_tokens);
  REQUIRE(extend(layer_tokens / 3));
  bool ok = true;
  CHECK(allocations_of([&] {
          while (ok && state.tokens() < layer_tokens) ok = extend(1);
          state.clear();
          ok = ok && extend(layer_tokens / 3) && state.truncate(0) == status::ok && extend(layer_tokens / 4);
        }) == 0);
  CHECK(ok);
}

TEST_CASE("allocations: room for a sequence that has some", "[allocations]") {
  const attention_options options = {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8};
  const problem<float>    p({layer_tokens, 4, 2, 16, 8}, 1);
  head_rows<float>        out(layer_tokens, 4, 8);
  const selection         kept  = random_selection(layer_tokens, 0.3, 1);
  const representatives   one[] = {kept.view()};
  attention<float>        attend(options);
  attention_state<float>  state;
  const auto extend = [&](index_t end) { return extend_to(end, attend, state, p.q, p.kv(), one, out) == status::ok; };
  REQUIRE(extend(60));
  REQUIRE(extend(61));  // with half as much room to spare
  state.reserve(layer_tokens);
  REQUIRE(extend(62));
  bool ok = true;
  CHECK(allocations_of([&] {
          for (index_t end = 63; end <= layer_tokens; ++end) ok = ok && extend(end);
        }) == 0);
  CHECK(ok);
}
