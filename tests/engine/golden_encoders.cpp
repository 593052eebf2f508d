// The example engine's encoder with dense attention against what `transformers` computed in double precision
// (golden/make_encoders.py): tiny random models, and all-MiniLM-L6-v2 on real sentences.

#include <cstdlib>
#include <string>
#include <vector>

#include "catch.hpp"
#include "engine/bert.hpp"
#include "engine/sentence.hpp"
#include "golden.hpp"

using namespace engine;
using namespace tests;

namespace {

const std::string golden_folder = TEST_FOLDER "/golden/";

states run_dense(const bert& model, const std::vector<index_t>& ids, backend where) {
  return tests::run_dense(model, ids, {.keys = cascada::key_set::all, .causal = false}, where);
}

}  // namespace

TEST_CASE("bert: hidden states of every layer equal those of transformers", "[golden]") {
  const std::string folder = golden_folder + GENERATE("bert-bare", "bert-first");
  CAPTURE(folder);
  const safetensors golden(folder + "/golden.safetensors");
  threads           pool(2);
  const bert        model(folder, pool.where());
  check_states(run_dense(model, token_ids(golden), pool.where()), golden);
}

// Run by golden_minilm.sh, which fetches the weights.
TEST_CASE("minilm: embeddings of real sentences equal those of transformers", "[.minilm]") {
  const char* weights = std::getenv("CASCADA_MINILM");
  REQUIRE(weights != nullptr);
  threads             pool(2);
  const bert          model(weights, pool.where());
  const safetensors   golden(golden_folder + "minilm/golden.safetensors");
  const matrix        expected = whole(golden, "embeddings");
  std::vector<vector> embeddings;
  for (index_t i = 0; i < rows_of(expected); ++i) {
    CAPTURE(i);
    const auto ids = token_ids(golden, "tokens_" + std::to_string(i));
    embeddings.push_back(sentence_embedding(run_dense(model, ids, pool.where()).final));
    CHECK(relative_error(embeddings.back(), expected.row(i)) <= tolerance);
  }
  // The two sentences about tokens are closer to each other than to the one about Debian.
  REQUIRE(embeddings.size() >= 3);
  CHECK(embeddings[0].dot(embeddings[1]) > embeddings[0].dot(embeddings[2]));
}

TEST_CASE("rank correlation: known orders", "[golden]") {
  const std::vector<float> a = {3, 1, 4, 1.5f, 9, 2.6f}, cubes = {27, 1, 64, 3.375f, 729, 17.6f};
  std::vector<float>       negative = a;
  for (float& x : negative) x = -x;
  CHECK(rank_correlation(a, cubes) == Approx(1));
  CHECK(rank_correlation(a, negative) == Approx(-1));
  CHECK(rank_correlation({1, 2, 3, 4}, {1, 3, 2, 4}) == Approx(0.8));        // 1 - 6 * 2 / (4 * 15)
  CHECK(rank_correlation({1, 2, 2, 3}, {1, 2, 3, 4}) == Approx(0.9486833));  // 4.5 / sqrt(4.5 * 5)
  CHECK(rank_correlation({1, 1, 1}, {1, 2, 3}) == 0);
}
