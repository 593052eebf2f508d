// Many small random cases: every path of selection and cascade against the reference, over the whole grid of options.
//
// CASCADA_RANDOM_CASES sets how many: CMake asks for 100,000 in the main build.

#include <algorithm>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "sample.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

struct random_case {
  index_t           T, d;
  kind              tokens;
  selection_options options;
  unsigned          seed;
  unsigned          every;  // of tokens in the inherited state
};

random_case draw(std::mt19937& random) {
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random()) % n; };
  return {.T       = static_cast<index_t>(below(8) == 0 ? 60 + below(12) : below(24)),  // a block has 64 tokens
          .d       = static_cast<index_t>(1 + below(below(4) == 0 ? 70 : 18)),
          .tokens  = static_cast<kind>(below(6)),
          .options = {.threshold = below(8) == 0 ? 1.0f : 0.05f * static_cast<float>(1 + below(19)),
                      .assign    = below(2) ? assignment::nearest : assignment::lowest_index,
                      .validate  = below(3) == 0 ? validation::cross_gram : validation::exact,
                      .filter    = all_filters[below(5)]},
          .seed    = static_cast<unsigned>(random()),
          .every   = 1 + below(6)};
}

/// Grows in pieces, with a detour: the sequence is cut at some token, grows with other rows, and is cut there again.
template <class Scalar>
bool grows_to(const random_case& c, const token_rows<Scalar>& tokens, std::span<const index_t> below,
              const reference::selection& expected) {
  std::mt19937              random(c.seed);
  growing_selection<Scalar> grow(c.options);
  gram_operations           sum    = {};
  const auto                extend = [&](const token_rows<Scalar>& from, index_t end) {
    auto x = from.view();
    x.data += grow.kept().tokens() * x.stride, x.rows = end - grow.kept().tokens();
    const auto first = static_cast<std::size_t>(grow.kept().tokens()), count = static_cast<std::size_t>(x.rows);
    if (grow.extend(x, below.empty() ? below : below.subspan(first, count)) != status::ok) return false;
    const gram_operations& more = grow.report().gram;
    sum.selection += more.selection, sum.inherited += more.inherited;
    sum.validation += more.validation, sum.orphans += more.orphans;
    return true;
  };
  const auto longest = static_cast<unsigned>(c.T) / (1 + random() % 4) + 1;
  if (random() % 2 == 0) {
    const auto half  = static_cast<index_t>(random() % static_cast<unsigned>(c.T + 1));
    const auto other = make_tokens<Scalar>(c.tokens, c.T, c.d, c.seed + 1);
    if (half > 0 && !extend(tokens, half)) return false;
    const gram_operations before = sum;
    if (half < c.T && !extend(other, c.T)) return false;
    if (grow.truncate(half) != status::ok) return false;
    sum = before;
  }
  while (grow.kept().tokens() < c.T)
    if (!extend(tokens, std::min(c.T, grow.kept().tokens() + 1 + static_cast<index_t>(random() % longest))))
      return false;
  return same_sets(grow.kept(), expected.view()) && grow.report().representatives == grow.kept().count() &&
         (c.options.validate == validation::cross_gram || sum == expected.report.gram);
}

/// All paths on one case.
template <class Scalar>
bool every_path_agrees(const random_case& c) {
  const auto tokens = make_tokens<Scalar>(c.tokens, c.T, c.d, c.seed);
  const auto state  = random_state(c.T, c.seed, c.every);
  const auto full   = reference::select<Scalar>(tokens.view(), c.options);
  const auto step   = reference::cascade<Scalar>(tokens.view(), state.view(), c.options);

  selector<Scalar> select(c.options);
  cascade<Scalar>  walk(c.options);
  if (select(tokens.view()) != status::ok || !same_sets(select.kept(), full.view())) return false;
  if (!(select.report().gram == full.report.gram)) return false;
  if (select.literal(tokens.view()) != status::ok || !same_sets(select.kept(), full.view())) return false;
  if (!grows_to(c, tokens, {}, full) || !grows_to(c, tokens, state.view().rep, step)) return false;
  if (walk.inherit(state.view()) != status::ok || walk.step(tokens.view()) != status::ok) return false;
  return same_sets(walk.kept(), step.view()) && walk.report().gram == step.report.gram && step.indices == full.indices;
}

}  // namespace

TEST_CASE("random cases: every path agrees with the reference", "[select][cascade][property]") {
  const char*  named = std::getenv("CASCADA_RANDOM_CASES");
  const int    count = named ? std::stoi(named) : 10'000 / CASCADA_TEST_EVERY;
  std::mt19937 random(20261124);
  int          disagreements = 0;
  for (int i = 0; i < count && disagreements < 5; ++i) {
    const random_case c      = draw(random);
    const bool        agrees = i % 4 == 0 ? every_path_agrees<bfloat16>(c) : every_path_agrees<float>(c);
    if (agrees) continue;
    ++disagreements;
    CAPTURE(i, c.T, c.d, c.tokens, c.options.threshold, c.options.assign, c.options.validate, c.options.filter, c.seed,
            c.every);
    CHECK(agrees);
  }
  CHECK(disagreements == 0);
}
