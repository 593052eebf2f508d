// What is left of an object when memory runs out, when it was moved from, and when it is given its own state.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "allocation_counter.hpp"
#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "cascada/owned_representatives.hpp"
#include "catch.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr index_t held_tokens = 150, held_width = 36;

/// An executor whose handle is null once moved from.
struct shared_executor {
  std::shared_ptr<serial_executor> where = std::make_shared<serial_executor>();

  index_t concurrency() const { return where->concurrency(); }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    where->parallel_for(count, function);
  }
};

/// Throws instead of its `*left`-th run.
struct failing_executor {
  int* left;

  index_t concurrency() const { return 1; }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    if (--*left == 0) throw std::runtime_error("no thread");
    serial_executor().parallel_for(count, function);
  }
};

/// What an object shows. Compared with itself as it was.
struct shown {
  owned_representatives kept;
  gram_operations       gram;
  std::int64_t          pairs;

  template <class Object>
  explicit shown(const Object& object)
      : kept(owned_representatives::of(object.kept())),
        gram(object.report().gram),
        pairs(object.report().pairs_evaluated) {}

  friend bool operator==(const shown&, const shown&) = default;
};

/// Fails every allocation of `call(object)` in turn, each time on a new object of `make()`. The object stays as it was,
/// with the views of it that still show its memory, and does the same call afterwards as if nothing had happened.
template <class Make, class Call>
void fail_each(const Make& make, const Call& call) {
  auto reference = make();
  REQUIRE(call(reference) == status::ok);
  const shown expected(reference);
  bool        failed = true;
  long        n      = 0;
  while (failed) {
    auto                  object = make();
    const shown           before(object);
    const representatives view   = object.kept();
    status                answer = status::unsupported;
    failed                       = runs_out_at(++n, [&] { answer = call(object); });
    CAPTURE(n);
    if (failed) {
      CHECK(shown(object) == before);
      if (view.tokens() > 0) CHECK(view.stamp.stale() == (view.rep.data() != object.kept().rep.data()));
      answer = call(object);
    }
    CHECK(answer == status::ok);
    CHECK(shown(object) == expected);
  }
  CHECK(n > 1);
}

template <class Object>
Object after(matrix_view<const float> x, selection_options options = {}) {
  Object object(options);
  if constexpr (requires { object.step(x); })
    REQUIRE(object.step(x) == status::ok);
  else
    REQUIRE(object(x) == status::ok);
  return object;
}

}  // namespace

TEST_CASE("lifetimes: memory runs out in a selection", "[lifetimes][errors]") {
  const auto small   = make_tokens<float>(kind::clustered, held_tokens / 2, held_width, 1),
             large   = make_tokens<float>(kind::random, held_tokens, held_width, 2);
  const auto fresh   = [] { return selector<float>(); };
  const auto used    = [&] { return after<selector<float>>(small.view()); };
  const auto run     = [&](selector<float>& select) { return select(large.view()); };
  const auto literal = [&](selector<float>& select) { return select.literal(large.view()); };
  fail_each(fresh, run);
  fail_each(used, run);
  fail_each(fresh, literal);
  fail_each(used, literal);
  auto other = after<selector<float>>(large.view());
  REQUIRE(other.literal(large.view()) == status::ok);
  fail_each(used, [&](selector<float>& select) { return select = other, status(status::ok); });
}

TEST_CASE("lifetimes: memory runs out in a cascade", "[lifetimes][errors]") {
  const auto validate = GENERATE(validation::exact, validation::cross_gram);
  CAPTURE(validate);
  const selection_options options{.validate = validate};
  const auto              small = make_tokens<float>(kind::clustered, held_tokens / 2, held_width, 1),
             large              = make_tokens<float>(kind::random, held_tokens, held_width, 2);
  const auto wide               = make_tokens<float>(kind::random, held_tokens / 2, 3 * held_width, 2);
  const auto state = random_state(held_tokens, 5), alike = random_state(held_tokens / 2, 6);
  const auto fresh = [&] { return cascade<float>(options); };
  const auto used  = [&] { return after<cascade<float>>(small.view(), options); };
  const auto reset = [&] {
    auto walk = used();
    walk.reset();
    return walk;
  };
  const auto inherit   = [&](cascade<float>& walk) { return walk.inherit(state.view()); };
  const auto inherited = [&] {
    cascade<float> walk(options);
    REQUIRE(walk.inherit(alike.view()) == status::ok);
    return walk;
  };
  fail_each(fresh, [&](cascade<float>& walk) { return walk.step(large.view()); });
  fail_each(reset, [&](cascade<float>& walk) { return walk.step(large.view()); });
  fail_each(used, [&](cascade<float>& walk) { return walk.step(wide.view()); });
  fail_each(inherited, [&](cascade<float>& walk) { return walk.step(wide.view()); });
  fail_each(fresh, inherit);
  fail_each(used, inherit);
  fail_each(used, [&](cascade<float>& walk) {
    cascade<float> branch;
    const status   answer = walk.fork(branch);
    return branch.kept().count() == walk.kept().count() ? answer : status(status::unsupported);
  });
  cascade<float> trunk;
  REQUIRE(trunk.step(large.view()) == status::ok);
  fail_each(used, [&](cascade<float>& branch) { return trunk.fork(branch); });
}

TEST_CASE("lifetimes: a state of its own, whatever room there is", "[lifetimes]") {
  const auto     limit  = GENERATE(index_t{no_limit}, 1, 3, 40);
  const bool     reuse  = GENERATE(false, true);
  const auto     tokens = make_tokens<float>(kind::clustered, held_tokens, held_width, 1);
  const auto     state  = random_state(held_tokens, 5);
  cascade<float> walk({.max_representatives = limit});
  CAPTURE(limit, reuse);
  if (reuse) REQUIRE(walk.step({tokens.view().data, 1, held_width, held_width}) == status::ok);
  REQUIRE(walk.inherit(state.view()) == status::ok);
  const shown before(walk);
  for (int round = 0; round < 3; ++round) {
    REQUIRE(walk.inherit(walk.kept()) == status::ok);
    CHECK(shown(walk) == before);
  }
  // A part of its own: the first tokens, and their representatives.
  const auto    first = walk.kept();
  const index_t part  = first.indices[first.indices.size() / 2];
  const auto    size  = static_cast<std::size_t>(part) + 1;
  const auto    r     = first.indices.size() / 2 + 1;

  std::vector<index_t> counts(r, 0);
  for (std::size_t i = 0; i < size; ++i)
    ++counts[static_cast<std::size_t>(std::find(first.indices.begin(), first.indices.end(), first.rep[i]) -
                                      first.indices.begin())];
  const owned_representatives expected{{first.indices.begin(), first.indices.begin() + static_cast<std::ptrdiff_t>(r)},
                                       {first.rep.begin(), first.rep.begin() + static_cast<std::ptrdiff_t>(size)},
                                       counts};
  REQUIRE(walk.inherit({first.indices.first(r), first.rep.first(size), counts}) == status::ok);
  CHECK(same_sets(walk.kept(), expected.view()));
}

TEST_CASE("lifetimes: after the first time, adopting a state allocates nothing", "[lifetimes]") {
  const auto     limit  = GENERATE(index_t{no_limit}, 100);
  const auto     tokens = make_tokens<float>(kind::clustered, held_tokens, held_width, 1);
  const auto     state  = random_state(held_tokens, 5);
  cascade<float> walk({.max_representatives = limit});
  REQUIRE(walk.step(tokens.view()) == status::ok);
  REQUIRE(walk.inherit(state.view()) == status::ok);
  bool ok = true;
  CHECK(allocations_of([&] {
          for (int round = 0; round < 4; ++round) {
            ok &= walk.inherit(state.view()) == status::ok && walk.inherit(walk.kept()) == status::ok;
            ok &= walk.step(tokens.view()) == status::ok;
          }
        }) == 0);
  CHECK(ok);
}

TEMPLATE_TEST_CASE("lifetimes: what was moved from is as new", "[lifetimes]", selector<float>, cascade<float>) {
  const auto assigned = GENERATE(false, true);
  const auto x        = make_tokens<float>(kind::clustered, held_tokens, held_width, 1),
             y        = make_tokens<float>(kind::random, held_tokens / 3, held_width, 2);
  const TestType model(selection_options{.threshold = 0.6f});
  const auto     run = [](TestType& object, const token_rows<float>& tokens) {
    if constexpr (requires { object.step(tokens.view()); })
      return object.step(tokens.view());
    else
      return object(tokens.view());
  };
  TestType from(selection_options{.threshold = 0.6f});
  REQUIRE(run(from, x) == status::ok);
  const shown before(from);
  TestType    to(selection_options{.threshold = 0.3f});
  REQUIRE(run(to, y) == status::ok);
  if (assigned) {
    to = std::move(from);
    CHECK(shown(to) == before);
    REQUIRE(run(to, x) == status::ok);
  } else {
    TestType made(std::move(from));
    CHECK(shown(made) == before);
    REQUIRE(run(made, x) == status::ok);
  }
  CHECK(shown(from) == shown(model));
  CHECK(from.report().tokens == 0);
  CHECK(from.kept().rep.data() == nullptr);
  REQUIRE(run(from, x) == status::ok);  // with its own options, and from nothing
  CHECK(shown(from) == before);

  TestType& self = from;
  from           = std::move(self);
  CHECK(shown(from) == before);
}

TEST_CASE("lifetimes: a copy of a selector is independent", "[lifetimes]") {
  const auto x = make_tokens<float>(kind::clustered, held_tokens, held_width, 1),
             y = make_tokens<float>(kind::random, held_tokens / 3, held_width, 2);
  selector<float> a;
  REQUIRE(a(x.view()) == status::ok);
  const shown     before(a);
  selector<float> b = a, c;
  c                 = a;
  REQUIRE(a(y.view()) == status::ok);
  CHECK(shown(b) == before);
  CHECK(shown(c) == before);
  REQUIRE(c(x.view()) == status::ok);
  CHECK(shown(c) == before);
}

/// Bytes that copying an object allocates.
template <class Object>
long long bytes_of_a_copy(const Object& object) {
  const long long before = allocated_bytes();
  const Object    copy(object);
  return allocated_bytes() - before;
}

TEST_CASE("lifetimes: a copy takes no memory that is for calls alone", "[lifetimes][attention]") {
  constexpr index_t T = 600, d = 64;
  const auto        x = make_tokens<float>(kind::clustered, T, d, 1);
  selector<float>   select({.threshold = 0.5f});
  REQUIRE(select(x.view()) == status::ok);
  REQUIRE(select.literal(x.view()) == status::ok);
  const long long r    = select.kept().count();
  const long long sets = 4 * (T + 4 * r) * static_cast<long long>(sizeof(index_t));  // of which some have room for more
  CHECK(bytes_of_a_copy(select) <= sets + 2 * T * static_cast<long long>(sizeof(index_t)));

  growing_selection<float> grow({.threshold = 0.5f});
  REQUIRE(grow.extend(x.view()) == status::ok);
  CHECK(bytes_of_a_copy(grow) <=
        sets + 4 * T * static_cast<long long>(sizeof(index_t)) + r * d * static_cast<long long>(sizeof(float)));

  const problem<float> p({held_tokens, 4, 2, 16, 8}, 1);
  head_rows<float>     out(held_tokens, 4, 8);
  attention<float>     attend({.keys = key_set::all});
  REQUIRE(attend(p.q.view(), p.kv(), out.view()) == status::ok);
  CHECK(bytes_of_a_copy(attend) == 0);
}

TEST_CASE("lifetimes: an executor that cannot be had any more once moved from", "[lifetimes]") {
  using on          = cpu<compiled_isa, shared_executor>;
  const auto tokens = make_tokens<float>(kind::clustered, held_tokens, held_width, 1);

  selector<float, on> select, selected(std::move(select));
  CHECK(select(tokens.view()) == status::ok);
  selected = std::move(select);
  CHECK(select(tokens.view()) == status::ok);
  cascade<float, on> walk, walked(std::move(walk));
  CHECK(walk.step(tokens.view()) == status::ok);
  walked = std::move(walk);
  CHECK(walk.step(tokens.view()) == status::ok);
}

TEST_CASE("lifetimes: memory runs out in attention", "[lifetimes][errors][attention]") {
  const auto m = GENERATE(from_range(modes));
  CAPTURE(m);
  const problem<float>  p({held_tokens, 4, 2, 16, 8}, 1), smaller({held_tokens / 3, 4, 2, 16, 8}, 1);
  const selection       kept = random_selection(held_tokens, 0.3, 1), less = random_selection(held_tokens / 3, 0.3, 1);
  const representatives one = kept.view(), other = less.view();
  head_rows<float>      expected(held_tokens, 4, 8), out(held_tokens, 4, 8), rest(held_tokens / 3, 4, 8);
  const auto            run = [&](attention<float>& attend, head_rows<float>& to) {
    return attend(p.q.view(), p.kv(), one, to.view());
  };
  attention<float> reference(m.options);
  REQUIRE(run(reference, expected) == status::ok);
  const auto same = [&] {
    for (index_t t = 0; t < held_tokens; ++t)
      for (index_t h = 0; h < 4; ++h)
        if (!std::equal(out.view().row(t, h), out.view().row(t, h) + 8, expected.view().row(t, h))) return false;
    return true;
  };
  for (const bool used : {false, true}) {
    bool failed = true;
    long n      = 0;
    while (failed) {
      attention<float> attend(m.options);
      if (used) REQUIRE(attend(smaller.q.view(), smaller.kv(), other, rest.view()) == status::ok);
      status answer = status::unsupported;
      failed        = runs_out_at(++n, [&] { answer = run(attend, out); });
      CAPTURE(used, n);
      if (failed) answer = run(attend, out);
      CHECK(answer == status::ok);
      CHECK(same());
      attention<float> moved(std::move(attend));
      CHECK(run(attend, out) == status::ok);
      CHECK(same());
    }
    CHECK(n > 1);
  }
}

namespace {

/// A sequence that grows, near + far, whose tokens and selection are always the same.
struct growing_sequence {
  attention_options options = {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8};
  problem<float>    p{{held_tokens, 4, 2, 16, 8}, 1};
  selection         kept = random_selection(held_tokens, 0.3, 1);
  head_rows<float>  out{held_tokens, 4, 8};

  status extend(attention<float>& attend, attention_state<float>& state, index_t end) {
    const representatives one[] = {kept.view()};
    return extend_to(end, attend, state, p.q, p.kv(), one, out);
  }

  /// What one call gives.
  head_rows<float> at_once() const {
    const representatives one[] = {kept.view()};
    head_rows<float>      all(held_tokens, 4, 8);
    attention<float>      attend(options);
    REQUIRE(attend(p.q.view(), p.kv(), one, all.view()) == status::ok);
    return all;
  }
};

}  // namespace

TEST_CASE("lifetimes: memory runs out in a sequence that grows", "[lifetimes][errors][attention]") {
  growing_sequence       sequence;
  const head_rows<float> expected = sequence.at_once();
  const index_t          spare    = GENERATE(0, 18);  // a call that stays within what is reserved follows the failure
  for (const index_t cut : {0, 20, 60, 131}) {
    bool failed = true;
    long n      = 0;
    while (failed) {
      attention<float>       attend(sequence.options);
      attention_state<float> state;
      const auto             extend = [&](index_t end) { return sequence.extend(attend, state, end); };
      if (spare > 0) state.reserve(cut + spare);
      if (cut > 0) REQUIRE(extend(cut) == status::ok);
      status answer = status::unsupported;
      failed        = runs_out_at(++n, [&] { answer = extend(held_tokens); });
      CAPTURE(spare, cut, n);
      if (failed) {
        CHECK(state.tokens() == cut);
        if (spare > 0) REQUIRE(extend(std::min(held_tokens, cut + spare)) == status::ok);
        answer = extend(held_tokens);
      }
      CHECK(answer == status::ok);
      CHECK(sequence.out.packed<float>() == expected.packed<float>());
    }
    CHECK(n > 1);
  }
}

TEST_CASE("lifetimes: memory runs out while a sequence that grows is copied", "[lifetimes][errors][attention]") {
  growing_sequence       sequence;
  const head_rows<float> expected = sequence.at_once();
  const bool             assigned = GENERATE(false, true);
  const index_t          target   = GENERATE(0, 131);  // tokens of what is assigned to
  if (!assigned && target > 0) return;
  bool failed = true;
  long n      = 0;
  while (failed) {
    attention<float>       attend(sequence.options);
    attention_state<float> state, other;
    const auto             goes_on = [&](attention_state<float>& from) {
      return sequence.extend(attend, from, held_tokens) == status::ok &&
             sequence.out.packed<float>() == expected.packed<float>();
    };
    if (target > 0) REQUIRE(sequence.extend(attend, other, target) == status::ok);
    REQUIRE(sequence.extend(attend, state, 101) == status::ok);
    failed = runs_out_at(++n, [&] {
      if (assigned)
        other = state;
      else
        attention_state<float>(state).clear();
    });
    CAPTURE(assigned, target, n);
    CHECK(state.tokens() == 101);
    CHECK(other.tokens() == (assigned && !failed ? 101 : target));
    CHECK(goes_on(state));
    CHECK(goes_on(other));
  }
  CHECK(n > 10);
}

TEST_CASE("lifetimes: a state whose call an executor ended is refused until it is cleared",
          "[lifetimes][errors][attention]") {
  using on = cpu<compiled_isa, failing_executor>;
  growing_sequence       sequence;
  const head_rows<float> expected = sequence.at_once();
  const representatives  one[]    = {sequence.kept.view()};
  int                    left     = 0;
  attention<float, on>   attend(sequence.options, on{failing_executor{&left}});
  const auto             extend = [&](attention_state<float, on>& state, index_t end) {
    return extend_to(end, attend, state, sequence.p.q, sequence.p.kv(), one, sequence.out);
  };
  const char* const          why = "state is that of a call that was broken off; clear it";
  attention_state<float, on> whole;
  REQUIRE(extend(whole, held_tokens) == status::ok);
  const attention_report usual = attend.report();
  REQUIRE(usual.opened > 0);
  int n = 0;
  for (bool failed = true; failed;) {
    attention_state<float, on> state;
    REQUIRE(extend(state, 40) == status::ok);
    left          = ++n;
    status answer = status::unsupported;
    try {
      answer = extend(state, held_tokens);
      failed = false;
    } catch (const std::runtime_error&) {
    }
    left = 0;
    CAPTURE(n);
    if (!failed) CHECK(answer == status::ok);
    if (!failed) break;
    CHECK(state.tokens() == 40);
    attention_state<float, on> copy = state;
    std::vector<std::byte>     bytes(state.saved_bytes());
    for (attention_state<float, on>* of : {&state, &copy}) {
      CHECK(std::string(message(extend(*of, held_tokens))) == why);
      CHECK(std::string(message(of->truncate(20))) == why);
      CHECK(std::string(message(of->save(bytes))) == why);
      CHECK(std::string(message(of->fork(state))) == why);
    }
    CHECK(copy.truncate(0) == status::ok);
    state.clear();
    for (attention_state<float, on>* of : {&state, &copy}) {
      CHECK(extend(*of, held_tokens) == status::ok);
      CHECK(same_bits(sequence.out.packed<float>(), expected.packed<float>()));
      CHECK(attend.report() == usual);  // without what the call that ended did
    }
  }
  CHECK(n > 5);
}

TEST_CASE("lifetimes: memory runs out while a saved sequence is loaded", "[lifetimes][errors][attention]") {
  growing_sequence       sequence;
  const auto&            p        = sequence.p;
  const head_rows<float> expected = sequence.at_once();
  attention<float>       first(sequence.options);
  attention_state<float> saved;
  REQUIRE(sequence.extend(first, saved, 101) == status::ok);
  std::vector<std::byte> bytes(saved.saved_bytes());
  CHECK(allocations_of([&] { CHECK(saved.save(bytes) == status::ok); }) == 0);
  for (const index_t cut : {0, 131}) {
    bool failed = true;
    long n      = 0;
    while (failed) {
      attention<float>       attend(sequence.options);
      attention_state<float> state;
      if (cut > 0) REQUIRE(sequence.extend(attend, state, cut) == status::ok);
      status answer = status::unsupported;
      failed        = runs_out_at(++n, [&] { answer = attend.load(state, p.kv(), bytes); });
      CAPTURE(cut, n);
      if (failed) {
        CHECK(state.tokens() == cut);
        attention_state<float> branch = state;
        CHECK(sequence.extend(attend, branch, held_tokens) == status::ok);  // goes on as it was
        CHECK(attend.load(state, p.kv(), bytes) == status::ok);
      } else {
        CHECK(answer == status::ok);
      }
      CHECK(state.tokens() == 101);
      CHECK(sequence.extend(attend, state, 140) == status::ok);
      CHECK(sequence.extend(attend, state, held_tokens) == status::ok);
      for (index_t t = 101; t < held_tokens; ++t)
        for (index_t h = 0; h < 4; ++h)
          CHECK(
              std::equal(sequence.out.view().row(t, h), sequence.out.view().row(t, h) + 8, expected.view().row(t, h)));
    }
    CHECK(n > 10);
  }
}

TEST_CASE("lifetimes: what was loaded with room for it allocates nothing", "[lifetimes][attention]") {
  growing_sequence       sequence;
  const auto&            p = sequence.p;
  attention<float>       attend(sequence.options);
  attention_state<float> state;
  const auto             extend = [&](index_t end) { return sequence.extend(attend, state, end) == status::ok; };
  for (index_t t = 1; t <= 60; ++t) REQUIRE(extend(t));
  std::vector<std::byte> bytes(state.saved_bytes());
  REQUIRE(state.save(bytes) == status::ok);
  state.clear();
  state.reserve(held_tokens);
  REQUIRE(attend.load(state, p.kv(), bytes) == status::ok);
  REQUIRE(extend(61));  // room for a step, of its workers
  bool ok = true;
  CHECK(allocations_of([&] {
          for (index_t t = 62; t <= held_tokens; ++t) ok = ok && extend(t);
        }) == 0);
  CHECK(ok);
}
