// The theorem on real activations: residual streams of SmolLM2-135M (tests/engine/data/make_activations.sh).
//
// CASCADA_ACTIVATIONS names another file of the same form, such as all layers at full length.

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "engine/safetensors.hpp"
#include "library/tokens.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

std::string activations_file() {
  const char* named = std::getenv("CASCADA_ACTIVATIONS");
  return named ? named : CASCADA_TEST_DATA "/activations.safetensors";
}

}  // namespace

TEST_CASE("activations: every path gives the same set in every layer", "[cascade][property]") {
  constexpr float taus[] = {0.7f, 0.8f, 0.9f};
  const float     tau    = GENERATE_COPY(from_range(sample(taus)));
  CAPTURE(tau);
  engine::safetensors file(activations_file());
  const prefilter     filter = GENERATE(from_range(sample(all_filters)));
  CAPTURE(filter);
  cascade<float> exact({.threshold = tau, .filter = filter}),
      paper({.threshold = tau, .validate = validation::cross_gram});
  selector<float>    full({.threshold = tau, .filter = prefilter::none}), literal({.threshold = tau});
  selector<float>    filtered({.threshold = tau, .filter = filter});
  selector<bfloat16> narrow({.threshold = tau, .filter = filter});
  for (const std::string& name : file.names()) {
    CAPTURE(name);
    const auto [T, d]         = file.shape(name);
    const auto           rows = file.load(name, T, d);
    token_rows<bfloat16> stored(T, d);
    for (index_t i = 0; i < T; ++i)
      for (index_t c = 0; c < d; ++c) stored.set(i, c, rows(i, c));
    const matrix_view<const float> x{rows.data(), T, d, d};

    REQUIRE(full(x) == status::ok);
    REQUIRE(literal.literal(x) == status::ok);
    REQUIRE(filtered(x) == status::ok);
    REQUIRE(narrow(std::as_const(stored).view()) == status::ok);
    REQUIRE(exact.step(x) == status::ok);
    REQUIRE(paper.step(x) == status::ok);
    const auto expected = to_vector(full.kept().indices);
    CHECK(to_vector(literal.kept().rep) == to_vector(full.kept().rep));
    CHECK(to_vector(filtered.kept().rep) == to_vector(full.kept().rep));
    CHECK(to_vector(narrow.kept().rep) == to_vector(full.kept().rep));
    CHECK(to_vector(exact.kept().indices) == expected);
    CHECK(to_vector(paper.kept().indices) == expected);
    CHECK(to_vector(paper.kept().rep) == to_vector(exact.kept().rep));

    // What the method promises: fewer Gram operations than full selection wherever a layer inherits.
    if (exact.report().jaccard) CHECK(exact.report().gram.total() < full.report().gram.total());
  }
}

TEST_CASE("activations: the first layers as the reference has them", "[cascade][property]") {
  engine::safetensors  file(activations_file());
  cascade<float>       walk;
  reference::selection before;
  index_t              layer = 0;
  for (const std::string& name : file.names()) {
    if (layer == 2) break;  // the reference takes seconds for a layer
    CAPTURE(name);
    auto [T, d]                         = file.shape(name);
    const auto                     rows = file.load(name, T, d);
    const matrix_view<const float> x{rows.data(), std::min(T, 256), d, d};
    REQUIRE(walk.step(x) == status::ok);
    const auto expected =
        layer++ == 0 ? reference::select<float>(x, {}) : reference::cascade<float>(x, before.view(), {});
    CHECK(to_vector(walk.kept().rep) == expected.rep);
    CHECK(walk.report().gram == expected.report.gram);
    CHECK(walk.report().jaccard == expected.report.jaccard);
    before = expected;
  }
}
