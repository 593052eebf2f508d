// The example engine in dense mode against what `transformers` computed in double precision for tiny random models
// (golden/make_llama.py, golden/make_decoders.py) of odd sizes.

#include <string>
#include <vector>

#include "catch.hpp"
#include "engine/decoder.hpp"
#include "engine/evaluate.hpp"
#include "golden.hpp"
#include "model_copy.hpp"
#include "sample.hpp"

using namespace engine;
using namespace tests;

namespace {

/// Folders of golden/; golden/ itself holds the Llama: grouped queries, head_dim * heads != hidden.
const std::vector<std::string> models = {
    "",           "gpt2-published", "gpt2-untied",  "gptj-partial",  "gptj-sharded", "opt-tied",
    "opt-untied", "opt-post-norm",  "llama-linear", "llama-dynamic", "llama-llama3", "llama-yarn",
    "qwen2",      "qwen2-yarn",     "mistral",      "gemma2"};

std::string any_model(std::size_t line = __builtin_LINE()) {
  return TEST_FOLDER "/golden/" + GENERATE_COPY(from_range(sample(models, line)));
}

matrix logits_of(const decoder& model, const states& ours, backend where) {
  matrix logits;
  model.output()(ours.final, logits, where);
  return logits;
}

states run_dense(const decoder& model, const std::vector<index_t>& ids, backend where) {
  return tests::run_dense(model, ids, {.keys = cascada::key_set::all}, where);
}

}  // namespace

TEST_CASE("dense mode: hidden states of every layer and logits equal those of transformers", "[golden]") {
  const std::string folder = any_model();
  CAPTURE(folder);
  const safetensors golden(folder + "/golden.safetensors");
  threads           pool(2);
  const decoder     model(folder, pool.where());
  const states      ours = run_dense(model, token_ids(golden), pool.where());
  check_states(ours, golden);
  CHECK(relative_error(logits_of(model, ours, pool.where()), whole(golden, "logits")) <= tolerance);
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
  CHECK(logits_of(alone, run_dense(alone, ids, one.where()), one.where()) ==
        logits_of(together, run_dense(together, ids, three.where()), three.where()));
}

TEST_CASE("scaled rotary positions: the older and the newer keys say the same", "[golden]") {
  const std::string folder = TEST_FOLDER "/golden/" + GENERATE(as<std::string>{}, "llama-linear", "llama-dynamic",
                                                               "llama-llama3", "llama-yarn", "qwen2-yarn");
  CAPTURE(folder);
  const auto     ids     = token_ids(safetensors(folder + "/golden.safetensors"));
  const auto     given   = read_json(folder + "/config.json");
  const auto     run     = [&](const std::string& from) { return run_dense(decoder(from), ids, {}).final; };
  nlohmann::json scaling = given.value("rope_scaling", nlohmann::json::object());
  scaling.update(given.value("rope_parameters", nlohmann::json::object()));
  const std::string    type = scaling.value("rope_type", scaling.value("type", ""));
  const nlohmann::json base = given.value("rope_theta", scaling.value("rope_theta", nlohmann::json()));
  for (const char* key : {"type", "rope_type", "rope_theta"}) scaling.erase(key);

  const matrix     expected = run(folder);
  const model_copy copy(folder);
  const auto       with = [&](nlohmann::json values, const nlohmann::json& inside) {
    for (auto& value : values)
      if (value == "scaling") value = scaling, value.update(inside);
    nlohmann::json all = {{"rope_theta", nullptr}, {"rope_scaling", nullptr}, {"rope_parameters", nullptr}};
    all.update(values);
    REQUIRE(copy.with(all).empty());
    return run(copy.path());
  };
  CHECK(with({{"rope_scaling", "scaling"}, {"rope_theta", base}}, {{"type", type}}) == expected);
  CHECK(with({{"rope_scaling", "scaling"}, {"rope_theta", base}}, {{"rope_type", type}}) == expected);
  CHECK(with({{"rope_scaling", "scaling"}, {"rope_theta", base}}, {{"rope_type", type}, {"type", type}}) == expected);
  CHECK(with({{"rope_parameters", "scaling"}}, {{"rope_type", type}, {"rope_theta", base}}) == expected);
  CHECK(with({{"rope_parameters", "scaling"}}, {{"type", type}, {"rope_theta", base}}) == expected);
  CHECK(with({{"rope_parameters", "scaling"}, {"rope_theta", 7}}, {{"type", type}, {"rope_theta", base}}) == expected);
  const char* original = "original_max_position_embeddings";
  if (scaling.contains(original))  // outside it counts more than inside
    CHECK(with({{"rope_parameters", "scaling"}, {original, scaling[original]}},
               {{"type", type}, {"rope_theta", base}, {original, 7}}) == expected);
  CHECK(with({{"rope_theta", base}, {"max_position_embeddings", 64}}, {}) != expected);  // the scaling does something
}
