// A view that kept() gave is refused once its owner has another set, and good until then.

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "cascada/owned_representatives.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr index_t viewed_tokens = 150, viewed_width = 36;

const token_rows<float>& rows_of_layer(int layer) {
  static const token_rows<float> all[] = {make_tokens<float>(kind::clustered, viewed_tokens, viewed_width, 1),
                                          make_tokens<float>(kind::random, viewed_tokens, viewed_width, 2)};
  return all[layer];
}

status select_in(selector<float>& select, int layer) { return select(rows_of_layer(layer).view()); }
status select_in(cascade<float>& walk, int layer) { return walk.step(rows_of_layer(layer).view()); }
status select_in(growing_selection<float>& grow, int layer) { return grow.extend(rows_of_layer(layer).view()); }

/// An owner with a set.
template <class Owner>
Owner selected() {
  Owner owner(selection_options{.threshold = 0.6f});
  REQUIRE(select_in(owner, 0) == status::ok);
  return owner;
}

/// What reads a view of `viewed_tokens` tokens, with the sentence of its answer; empty where it takes it.
std::vector<std::string> refusals(const representatives& view) {
  static const problem<float> p({viewed_tokens, 2, 1, 8, 8}, 1);
  const attention_options     options = {.window = 16, .chunk = 32};
  attention<float>            attend(options);
  attention_state<float>      state;
  cascade<float>              walk;
  head_rows<float>            out(viewed_tokens, 2, 8);
  out.fill([] { return 42.0f; });
  const status             answers[] = {check(view, viewed_tokens), walk.inherit(view),
                                        attend(p.q.view(), p.kv(), view, out.view()),
                                        attend.extend(state, p.q.view(), p.kv(), view, out.view())};
  std::vector<std::string> sentences;
  for (const status answer : answers) {
    CHECK((answer == status::ok || answer == status::invalid_representatives));
    sentences.emplace_back(answer == status::ok ? "" : message(answer));
  }
  const auto written = out.packed<float>();
  CHECK((written == std::vector<float>(written.size(), 42.0f)) ==
        (answers[2] != status::ok && answers[3] != status::ok));
  CHECK((state.tokens() == 0) == (answers[3] != status::ok));
  CHECK((walk.kept().tokens() == 0) == (answers[1] != status::ok));
  return sentences;
}

void check_good(const representatives& view) {
  CHECK(refusals(view) == std::vector<std::string>(4));
  CHECK(owned_representatives::of(view).view().tokens() == viewed_tokens);
}

void check_stale(const representatives& view) {
  CHECK(owned_representatives::of(view) == owned_representatives());
  const std::string of_one  = "representatives is a view of a set that its owner has replaced: call kept() again";
  const std::string of_many = "selections has a view of a set that its owner has replaced: call kept() again";
  CHECK(refusals(view) == std::vector{of_one, of_one, of_many, of_many});
}

/// A view of an owner's set is good, and stale after `replace(owner)`; the owner's next view is good, if it has one.
template <class Owner>
void check_replaced(const std::function<void(Owner&)>& replace) {
  Owner                 owner = selected<Owner>();
  const representatives view  = owner.kept();
  check_good(view);
  replace(owner);
  check_stale(view);
  if (owner.kept().tokens() == viewed_tokens) check_good(owner.kept());
}

}  // namespace

TEST_CASE("stale views: a selector's next call", "[errors]") {
  check_replaced<selector<float>>([](auto& select) { REQUIRE(select_in(select, 1) == status::ok); });
  check_replaced<selector<float>>([](auto& select) { REQUIRE(select_in(select, 0) == status::ok); });  // the same set
  check_replaced<selector<float>>([](auto& select) { REQUIRE(select.literal(rows_of_layer(1).view()) == status::ok); });
  check_replaced<selector<float>>([](auto& select) { select = selector<float>(); });
  check_replaced<selector<float>>([](auto& select) {
    const auto other = selected<selector<float>>();
    select           = other;
  });
}

TEST_CASE("stale views: a cascade's next set", "[errors]") {
  check_replaced<cascade<float>>([](auto& walk) { REQUIRE(select_in(walk, 1) == status::ok); });
  check_replaced<cascade<float>>([](auto& walk) { REQUIRE(walk.inherit(walk.kept()) == status::ok); });
  check_replaced<cascade<float>>([](auto& walk) { walk.reset(); });
  check_replaced<cascade<float>>([](auto& walk) { walk = cascade<float>(); });
  check_replaced<cascade<float>>([](auto& walk) { REQUIRE(selected<cascade<float>>().fork(walk) == status::ok); });
  check_replaced<cascade<float>>([](auto& walk) { REQUIRE(cascade<float>().fork(walk) == status::ok); });
}

TEST_CASE("stale views: what changes a growing selection", "[errors]") {
  using growing = growing_selection<float>;
  check_replaced<growing>([](auto& grow) { REQUIRE(select_in(grow, 1) == status::ok); });
  check_replaced<growing>([](auto& grow) {  // where its memory stays
    auto few = rows_of_layer(1).view();
    few.rows = 10;
    REQUIRE(grow.extend(few) == status::ok);
  });
  check_replaced<growing>([](auto& grow) { REQUIRE(grow.truncate(viewed_tokens - 1) == status::ok); });
  check_replaced<growing>([](auto& grow) { grow.clear(); });
  check_replaced<growing>([](auto& grow) {
    std::vector<std::byte> bytes(grow.saved_bytes());
    REQUIRE((grow.save(bytes) == status::ok && grow.load(bytes) == status::ok));
  });
  check_replaced<growing>([](auto& grow) {
    const growing other = grow;
    grow                = other;
  });
}

TEMPLATE_TEST_CASE("stale views: an owner that is gone", "[errors]", selector<float>, cascade<float>,
                   growing_selection<float>) {
  std::optional<TestType> owner(selected<TestType>());
  const representatives   view = owner->kept();
  check_good(view);
  owner.reset();
  check_stale(view);
}

TEMPLATE_TEST_CASE("stale views: a set that moves to another owner stays what it was", "[errors]", selector<float>,
                   cascade<float>, growing_selection<float>) {
  TestType              first = selected<TestType>(), other = selected<TestType>();
  const representatives view = first.kept(), replaced = other.kept();
  TestType              second(std::move(first));
  check_good(view);
  first = selected<TestType>();  // of an owner that has it no longer
  check_good(view);
  other = std::move(second);
  check_good(view);
  check_stale(replaced);
  REQUIRE(select_in(other, 1) == status::ok);
  check_stale(view);
  check_good(first.kept());
}

TEMPLATE_TEST_CASE("stale views: copies and refused calls leave a view as it is", "[errors]", cascade<float>,
                   growing_selection<float>) {
  TestType              owner = selected<TestType>();
  const representatives view  = owner.kept();
  {
    TestType copy;
    if constexpr (requires { owner.fork(copy); })
      REQUIRE(owner.fork(copy) == status::ok);
    else
      copy = owner;
    const representatives of_copy = copy.kept();
    check_good(of_copy);
    REQUIRE(select_in(copy, 1) == status::ok);
    check_stale(of_copy);
  }
  check_good(view);
  token_rows<float> broken = rows_of_layer(1);
  broken.set(3, 5, not_a_number);
  if constexpr (requires { owner.step(broken.view()); }) {
    CHECK(owner.step(broken.view()) == status::non_finite_token);
  } else {
    CHECK(owner.extend({}) == status::ok);  // nothing
    CHECK(owner.truncate(viewed_tokens) == status::ok);
    CHECK(owner.truncate(viewed_tokens + 1) == status::invalid_shape);
    CHECK(owner.load({}) == status::invalid_shape);
  }
  check_good(view);
}

TEST_CASE("stale views: a growing selection whose memory has moved, though the call was refused", "[errors]") {
  auto                  grow   = selected<growing_selection<float>>();
  const representatives view   = grow.kept();
  token_rows<float>     broken = rows_of_layer(1);
  broken.set(3, 5, not_a_number);
  REQUIRE(grow.extend(broken.view()) == status::non_finite_token);
  check_stale(view);
  check_good(grow.kept());
}

TEST_CASE("stale views: views made by hand have no owner", "[errors]") {
  auto                  owner   = selected<selector<float>>();
  const representatives kept    = owner.kept();
  const std::vector     indices = to_vector(kept.indices), rep = to_vector(kept.rep), counts = to_vector(kept.counts);
  const representatives by_name = {.indices = indices, .rep = rep, .counts = counts}, in_turn = {indices, rep, counts};
  REQUIRE(select_in(owner, 1) == status::ok);
  check_good(by_name);
  check_good(in_turn);
  representatives part = kept;  // of a view
  part.rep             = rep;
  check_stale(part);
}

TEST_CASE("stale views: the set of thousands of sets ago is forgotten, not mistaken", "[errors]") {
  growing_selection<float> owner, other;
  REQUIRE(other.extend(rows_of_layer(0).view()) == status::ok);
  const representatives kept = other.kept();
  for (int i = 0; i < 10000; ++i) owner.clear();
  check_good(kept);
}
