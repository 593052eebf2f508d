// The example engine in dense mode against what `transformers` computed in double precision for tiny random models
// (golden/make_llama.py, golden/make_decoders.py) of odd sizes.

#include <string>
#include <vector>

#include "cascada/attention.hpp"
#include "catch.hpp"
#include "engine/decoder.hpp"
#include "engine/evaluate.hpp"

using namespace engine;

namespace {

/// Folders of golden/; golden/ itself holds the Llama: grouped queries, head_dim * heads != hidden.
std::string any_model() {
  const std::string name = GENERATE(as<std::string>{}, "", "gpt2-published", "gpt2-untied", "gptj-partial",
                                    "gptj-sharded", "opt-tied", "opt-untied", "opt-post-norm");
  return TEST_FOLDER "/golden/" + name;
}

std::vector<index_t> token_ids(const safetensors& golden) {
  const auto           count = static_cast<index_t>(golden.shape("logits").first);
  const matrix         ids   = golden.load("tokens", 1, count);
  std::vector<index_t> out;
  for (index_t t = 0; t < count; ++t) out.push_back(static_cast<index_t>(ids(0, t)));
  return out;
}

matrix whole(const safetensors& golden, const std::string& name) {
  const auto [rows, cols] = golden.shape(name);
  return golden.load(name, rows, cols);
}

struct run {
  std::vector<matrix> entering;  // the residual stream, layer by layer
  matrix              final, logits;
};

run run_dense(const decoder& model, const std::vector<index_t>& ids, backend where) {
  cascada::attention<float> dense({.keys = cascada::key_set::all}, where);
  run                       out;
  out.final = model.forward(ids, [&](const attention_input& layer, matrix& attended) {
    out.entering.push_back(layer.residual);
    require_ok(dense(heads(layer.queries, layer.heads), layer.kv(), {}, heads(attended, layer.heads)), "attention");
  });
  model.output()(out.final, out.logits, where);
  return out;
}

double relative_error(const matrix& ours, const matrix& golden) {
  REQUIRE(ours.rows() == golden.rows());
  REQUIRE(ours.cols() == golden.cols());
  REQUIRE(ours.allFinite());
  return static_cast<double>((ours - golden).cwiseAbs().maxCoeff() / golden.cwiseAbs().maxCoeff());
}

}  // namespace

TEST_CASE("dense mode: hidden states of every layer and logits equal those of transformers", "[golden]") {
  const std::string folder = any_model();
  CAPTURE(folder);
  const safetensors golden(folder + "/golden.safetensors");
  threads           pool(2);
  const decoder     model(folder, pool.where());
  const run         ours = run_dense(model, token_ids(golden), pool.where());

  // 2^-24 for each of the few hundred roundings on the longest path, most of which cancel: 64 of them remain at most.
  const double tolerance = 64 * 0x1p-24;
  index_t      layers    = 0;
  while (golden.contains("layer_0" + std::to_string(layers))) ++layers;
  REQUIRE(layers == model.layers());
  REQUIRE(ours.entering.size() == static_cast<std::size_t>(layers));
  for (index_t l = 0; l < layers; ++l) {
    CAPTURE(l);
    const matrix expected = whole(golden, "layer_0" + std::to_string(l));
    CHECK(relative_error(ours.entering[static_cast<std::size_t>(l)], expected) <= tolerance);
  }
  CHECK(relative_error(ours.final, whole(golden, "final")) <= tolerance);
  CHECK(relative_error(ours.logits, whole(golden, "logits")) <= tolerance);
}

TEST_CASE("dense mode: perplexity is that of the golden logits", "[golden]") {
  const std::string folder = any_model();
  CAPTURE(folder);
  const safetensors golden(folder + "/golden.safetensors");
  const auto        ids    = token_ids(golden);
  const matrix      logits = whole(golden, "logits");
  double            loss   = 0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    double sum = 0;
    for (Eigen::Index v = 0; v < logits.cols(); ++v)
      sum += std::exp(static_cast<double>(logits(static_cast<Eigen::Index>(t), v)));
    loss += std::log(sum) - static_cast<double>(logits(static_cast<Eigen::Index>(t), ids[t + 1]));
  }
  threads       pool(2);
  const decoder model(folder, pool.where());
  const auto    ours = predict_next(run_dense(model, ids, pool.where()).final, model.output(), ids, pool.where());
  CHECK(ours.perplexity == Approx(std::exp(loss / static_cast<double>(ids.size() - 1))).epsilon(1e-5));
}

TEST_CASE("dense mode: any number of threads gives the same bits", "[golden]") {
  const std::string folder = any_model();
  CAPTURE(folder);
  const auto    ids = token_ids(safetensors(folder + "/golden.safetensors"));
  threads       one(1), three(3);
  const decoder alone(folder, one.where()), together(folder, three.where());
  CHECK(run_dense(alone, ids, one.where()).logits == run_dense(together, ids, three.where()).logits);
}
