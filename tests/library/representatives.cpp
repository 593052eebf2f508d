// Representatives: overlap of two sets, and which states are legal.

#include "cascada/representatives.hpp"

#include <algorithm>
#include <iterator>
#include <random>
#include <vector>

#include "catch.hpp"
#include "sample.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// A set of indices alone: all that overlap looks at.
representatives set_of(const std::vector<index_t>& indices) { return {indices, {}, {}}; }

/// The definition, word by word.
bool is_legal(const owned_representatives& state, index_t T) {
  if (static_cast<index_t>(state.rep.size()) != T) return false;
  std::vector<index_t> members;
  for (index_t i = 0; i < T; ++i) {
    const index_t rep = state.rep[static_cast<std::size_t>(i)];
    if (rep < 0 || rep > i || state.rep[static_cast<std::size_t>(rep)] != rep) return false;
    if (rep == i) members.push_back(i);
  }
  if (state.indices != members || state.counts.size() != members.size()) return false;
  for (std::size_t k = 0; k < members.size(); ++k)
    if (state.counts[k] != std::count(state.rep.begin(), state.rep.end(), members[k])) return false;
  return true;
}

/// Calls `use` with every sequence of `length` numbers from `low` to `high`.
template <class Use>
void for_each_sequence(int length, index_t low, index_t high, Use use) {
  std::vector<index_t> sequence(static_cast<std::size_t>(length), low);
  for (;;) {
    use(sequence);
    auto digit = sequence.begin();
    while (digit != sequence.end() && *digit == high) *digit++ = low;
    if (digit == sequence.end()) return;
    ++*digit;
  }
}

}  // namespace

TEST_CASE("representatives: overlap of known sets", "[representatives]") {
  CHECK(jaccard(set_of({}), set_of({})) == 1.0);
  CHECK(jaccard(set_of({0, 3}), set_of({})) == 0.0);
  CHECK(jaccard(set_of({0, 3}), set_of({0, 3})) == 1.0);
  CHECK(jaccard(set_of({0, 3}), set_of({1, 2, 4})) == 0.0);
  CHECK(jaccard(set_of({0, 3, 5}), set_of({0, 2, 5, 9})) == 2.0 / 5.0);
}

TEST_CASE("representatives: overlap is |A and B| / |A or B|, either way round", "[representatives][property]") {
  const auto seed = GENERATE(range(0u, 20u));
  CAPTURE(seed);
  const auto           a = random_state(80, seed, 2 + seed % 5), b = random_state(80, seed + 100, 2 + seed % 3);
  std::vector<index_t> both, either;
  std::set_intersection(a.indices.begin(), a.indices.end(), b.indices.begin(), b.indices.end(),
                        std::back_inserter(both));
  std::set_union(a.indices.begin(), a.indices.end(), b.indices.begin(), b.indices.end(), std::back_inserter(either));
  const double expected = static_cast<double>(both.size()) / static_cast<double>(either.size());
  CHECK(jaccard(a.view(), b.view()) == expected);
  CHECK(jaccard(b.view(), a.view()) == expected);
}

TEST_CASE("representatives: states that a selection leaves are legal", "[representatives][property]") {
  const auto T    = GENERATE(0, 1, 2, 65);
  const auto seed = GENERATE(1u, 2u, 3u);
  CAPTURE(T, seed);
  const auto state = random_state(T, seed);
  CHECK(check(state.view(), T) == status::ok);
  CHECK(state.view().tokens() == T);
  CHECK(state.view().count() == static_cast<index_t>(state.indices.size()));
  CHECK(check(state.view(), T + 1) == status::invalid_representatives);
  CHECK(check(state.view(), T - 1) == status::invalid_representatives);
}

TEST_CASE("representatives: legal is what the definition says, over all small states",
          "[representatives][property][errors]") {
  constexpr bool    all   = CASCADA_TEST_EVERY == 1;
  constexpr index_t T     = all ? 3 : 2;
  int               legal = 0, wrong = 0;
  for_each_sequence(T, -1, T, [&](const std::vector<index_t>& rep) {
    for (int r = 0; r <= T + 1; ++r)
      for_each_sequence(r, -1, T, [&](const std::vector<index_t>& indices) {
        for_each_sequence(std::min(r, 3), 0, T, [&](std::vector<index_t> counts) {
          counts.resize(indices.size(), 1);
          const owned_representatives state{indices, rep, counts};
          const bool                  expected = is_legal(state, T);
          legal += expected;
          wrong += (check(state.view(), T) == status::ok) != expected;
        });
      });
  });
  CHECK(wrong == 0);
  CHECK(legal == (all ? 5 : 2));  // rep = 000, 002, 010, 011, 012, or 00, 01
}

TEST_CASE("representatives: counts that add up, and are wrong for two clusters", "[representatives][errors]") {
  const auto T    = GENERATE(65, 4096, 4097, 20000);
  const auto seed = GENERATE(from_range(sample(std::vector{0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u})));
  CAPTURE(T, seed);
  auto state = random_state(T, seed);
  REQUIRE(check(state.view(), T) == status::ok);
  std::mt19937_64 random(seed);
  const auto      some = [&] { return random() % state.counts.size(); };
  for (int round = 0; round < 20; ++round) {
    const auto from = some(), to = some();
    if (from == to || state.counts[from] == 1) continue;
    --state.counts[from], ++state.counts[to];
    CHECK(check(state.view(), T) == status::invalid_representatives);
    ++state.counts[from], --state.counts[to];
  }
  std::swap(state.counts.front(), state.counts.back());
  CHECK((check(state.view(), T) == status::ok) == (state.counts.front() == state.counts.back()));
}

TEST_CASE("representatives: sizes that do not fit each other", "[representatives][errors]") {
  owned_representatives state{{0, 2}, {0, 0, 2}, {2, 1}};
  REQUIRE(check(state.view(), 3) == status::ok);
  SECTION("a count missing") { state.counts.pop_back(); }
  SECTION("a count too many") { state.counts.push_back(1); }
  SECTION("counts that add up with one below 1") { state.counts = {3, 0}; }
  SECTION("counts that overflow when added in 32 bits") { state.counts = {2147483647, 2147483647}; }
  SECTION("rep missing") { state.rep.pop_back(); }
  CHECK(check(state.view(), 3) == status::invalid_representatives);
}
