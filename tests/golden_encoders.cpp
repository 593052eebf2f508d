// The example engine's encoder with dense attention against what `transformers` computed in double precision
// (golden/make_encoders.py): tiny random models, and all-MiniLM-L6-v2 on real sentences.

#include <cstdlib>
#include <string>
#include <vector>

#include "cascada/attention.hpp"
#include "catch.hpp"
#include "engine/bert.hpp"
#include "engine/sentence.hpp"

using namespace engine;

namespace {

const std::string golden_folder = TEST_FOLDER "/golden/";

std::vector<index_t> token_ids(const matrix& ids) {
  std::vector<index_t> out;
  for (index_t t = 0; t < cols_of(ids); ++t) out.push_back(static_cast<index_t>(ids(0, t)));
  return out;
}

struct run {
  std::vector<matrix> entering;  // the residual stream, layer by layer
  matrix              final;
};

run run_dense(const bert& model, const std::vector<index_t>& ids, backend where) {
  cascada::attention<float> dense({.keys = cascada::key_set::all, .causal = false}, where);
  run                       out;
  out.final = model.forward(ids, [&](const attention_input& layer, matrix& attended) {
    out.entering.push_back(layer.residual);
    require_ok(dense(heads(layer.queries, layer.heads), layer.kv(), {}, heads(attended, layer.heads)), "attention");
  });
  return out;
}

double relative_error(const matrix& ours, const matrix& golden) {
  return static_cast<double>((ours - golden).cwiseAbs().maxCoeff() / golden.cwiseAbs().maxCoeff());
}

// 2^-24 for each of the few hundred roundings on the longest path, most of which cancel: 64 of them remain at most.
constexpr double tolerance = 64 * 0x1p-24;

}  // namespace

TEST_CASE("bert: hidden states of every layer equal those of transformers", "[golden]") {
  struct shape {
    const char* name;
    index_t     hidden, layers;
  };
  const auto tiny = GENERATE(shape{"bert-bare", 42, 3}, shape{"bert-first", 40, 2});
  CAPTURE(tiny.name);
  const std::string folder = golden_folder + tiny.name;
  safetensors       golden(folder + "/golden.safetensors");
  threads           pool(2);
  const bert        model(folder, pool.where());
  const run         ours = run_dense(model, token_ids(golden.load("tokens", 1, 61)), pool.where());

  REQUIRE(ours.entering.size() == static_cast<std::size_t>(tiny.layers));
  for (index_t l = 0; l < tiny.layers; ++l) {
    CAPTURE(l);
    const matrix expected = golden.load("layer_0" + std::to_string(l), 61, tiny.hidden);
    CHECK(relative_error(ours.entering[static_cast<std::size_t>(l)], expected) <= tolerance);
  }
  CHECK(relative_error(ours.final, golden.load("final", 61, tiny.hidden)) <= tolerance);
}

// Run by golden_minilm.sh, which fetches the weights.
TEST_CASE("minilm: embeddings of real sentences equal those of transformers", "[.minilm]") {
  const char* weights = std::getenv("CASCADA_MINILM");
  REQUIRE(weights != nullptr);
  threads             pool(2);
  const bert          model(weights, pool.where());
  safetensors         golden(golden_folder + "minilm/golden.safetensors");
  const matrix        expected = golden.load("embeddings", 6, 384);
  std::vector<vector> embeddings;
  for (index_t i = 0; i < rows_of(expected); ++i) {
    CAPTURE(i);
    const std::string name = "tokens_" + std::to_string(i);
    const auto        ids  = token_ids(golden.load(name, golden.shape(name).first, golden.shape(name).second));
    embeddings.push_back(sentence_embedding(run_dense(model, ids, pool.where()).final));
    CHECK(relative_error(embeddings.back(), expected.row(i)) <= tolerance);
  }
  // The two sentences about tokens are closer to each other than to the one about Debian.
  CHECK(embeddings[0].dot(embeddings[1]) > embeddings[0].dot(embeddings[2]));
}
