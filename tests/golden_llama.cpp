// The example engine in dense mode against what `transformers` computed in double precision for a tiny random Llama
// (golden/make_llama.py): grouped queries, odd sizes, head_dim * heads != hidden.

#include <string>
#include <vector>

#include "cascada/attention.hpp"
#include "catch.hpp"
#include "engine/evaluate.hpp"
#include "engine/llama.hpp"

using namespace engine;

namespace {

constexpr index_t tokens = 61, hidden = 48, vocabulary = 97, layers = 3;

const std::string folder = TEST_FOLDER "/golden";

std::vector<index_t> token_ids(safetensors& golden) {
  const matrix         ids = golden.load("tokens", 1, tokens);
  std::vector<index_t> out;
  for (index_t t = 0; t < tokens; ++t) out.push_back(static_cast<index_t>(ids(0, t)));
  return out;
}

struct run {
  std::vector<matrix> entering;  // the residual stream, layer by layer
  matrix              final, logits;
};

run run_dense(const std::vector<index_t>& ids, backend where) {
  const llama               model(folder, where);
  cascada::attention<float> dense({.keys = cascada::key_set::all}, where);
  run                       out;
  out.final = model.forward(ids, [&](const attention_input& layer, matrix& attended) {
    out.entering.push_back(layer.residual);
    require_ok(dense(heads(layer.queries, layer.heads), layer.kv(), {}, heads(attended, layer.heads)), "attention");
  });
  linear(out.final, model.output_weight(), out.logits, where);
  return out;
}

double relative_error(const matrix& ours, const matrix& golden) {
  return static_cast<double>((ours - golden).cwiseAbs().maxCoeff() / golden.cwiseAbs().maxCoeff());
}

}  // namespace

TEST_CASE("dense mode: hidden states of every layer and logits equal those of transformers", "[golden]") {
  safetensors golden(folder + "/golden.safetensors");
  threads     pool(2);
  const run   ours = run_dense(token_ids(golden), pool.where());

  // 2^-24 for each of the few hundred roundings on the longest path, most of which cancel: 64 of them remain at most.
  const double tolerance = 64 * 0x1p-24;
  REQUIRE(ours.entering.size() == static_cast<std::size_t>(layers));
  for (index_t l = 0; l < layers; ++l) {
    CAPTURE(l);
    const matrix expected = golden.load("layer_0" + std::to_string(l), tokens, hidden);
    CHECK(relative_error(ours.entering[static_cast<std::size_t>(l)], expected) <= tolerance);
  }
  CHECK(relative_error(ours.final, golden.load("final", tokens, hidden)) <= tolerance);
  CHECK(relative_error(ours.logits, golden.load("logits", tokens, vocabulary)) <= tolerance);
}

TEST_CASE("dense mode: perplexity is that of the golden logits", "[golden]") {
  safetensors  golden(folder + "/golden.safetensors");
  const auto   ids    = token_ids(golden);
  const matrix logits = golden.load("logits", tokens, vocabulary);
  double       loss   = 0;
  for (index_t t = 0; t + 1 < tokens; ++t) {
    double sum = 0;
    for (index_t v = 0; v < vocabulary; ++v) sum += std::exp(static_cast<double>(logits(t, v)));
    loss += std::log(sum) - static_cast<double>(logits(t, ids[static_cast<std::size_t>(t) + 1]));
  }
  threads     pool(2);
  const llama model(folder, pool.where());
  const auto  ours = predict_next(run_dense(ids, pool.where()).final, model.output_weight(), ids, pool.where());
  CHECK(ours.perplexity == Approx(std::exp(loss / (tokens - 1))).epsilon(1e-5));
}

TEST_CASE("dense mode: any number of threads gives the same bits", "[golden]") {
  safetensors golden(folder + "/golden.safetensors");
  const auto  ids = token_ids(golden);
  threads     one(1), three(3);
  CHECK(run_dense(ids, one.where()).logits == run_dense(ids, three.where()).logits);
}
