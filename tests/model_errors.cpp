// Models whose files are missing, damaged, or contradict each other: one sentence that names the key or the tensor.

#include <filesystem>
#include <string>
#include <vector>

#include "bad_input.hpp"
#include "catch.hpp"
#include "engine/bert.hpp"
#include "engine/decoder.hpp"
#include "engine/file.hpp"

using namespace engine;
using namespace tests;

namespace {

const std::string golden = TEST_FOLDER "/golden";

/// A golden model in a folder of its own, to be spoilt.
class model_copy : public scratch_folder {
 public:
  explicit model_copy(const std::string& from) : config_(read_json(from + "/config.json")) {
    for (const auto& entry : std::filesystem::directory_iterator(from))
      if (entry.is_regular_file())
        std::filesystem::copy_file(entry.path(), path() + "/" + entry.path().filename().string());
  }

  /// What loading the model complains about.
  std::string load() const {
    return complaint([&] { decoder model(path()); });
  }
  /// The same with keys of config.json set to other values.
  std::string with(const char* key, const nlohmann::json& value) const { return with({{key, value}}); }
  std::string with(const nlohmann::json& values) const {
    auto changed = config_;
    changed.update(values);
    put(file("config.json"), changed.dump());
    return load();
  }

 private:
  nlohmann::json config_;
};

}  // namespace

TEST_CASE("models: files that are missing or contradict each other", "[errors]") {
  const scratch_folder folder;
  const auto           load = [&] { return complaint([&] { decoder model(folder.path()); }); };
  CHECK(mentions(load(), "cannot open"));
  put(folder.file("config.json"), "{");
  CHECK(mentions(load(), "JSON"));

  model_copy llama(golden);
  REQUIRE(llama.with("hidden_size", 48).empty());
  CHECK(mentions(llama.with("hidden_size", nullptr), "no hidden_size"));
  CHECK(mentions(llama.with("hidden_size", "wide"), "hidden_size in"));
  CHECK(mentions(llama.with("hidden_size", 48.5), "wrong type"));
  CHECK(mentions(llama.with("hidden_size", 0), "at least 1"));
  CHECK(mentions(llama.with("hidden_size", -48), "at least 1"));
  CHECK(mentions(llama.with("hidden_size", 1ULL << 40), "at most"));
  CHECK(mentions(llama.with("hidden_size", 64), "tensor model.embed_tokens.weight"));
  CHECK(mentions(llama.with("intermediate_size", 93), "tensor model.layers.0.mlp.gate_proj.weight"));
  CHECK(mentions(llama.with("num_hidden_layers", 4), "no tensor model.layers.3."));
  CHECK(mentions(llama.with({{"num_attention_heads", 1 << 20}, {"head_dim", 1 << 20}}), "too large"));
  CHECK(mentions(llama.with("num_key_value_heads", 4), "KV heads"));
  CHECK(mentions(llama.with("head_dim", 9), "odd"));
  CHECK(mentions(llama.with("head_dim", 12), "q_proj"));
  CHECK(mentions(llama.with("rms_norm_eps", -1), "rms_norm_eps"));
  CHECK(mentions(llama.with("rms_norm_eps", true), "wrong type"));
  CHECK(mentions(llama.with("model_type", "mamba"), "model_type is mamba"));
  CHECK(mentions(llama.with("model_type", nullptr), "no model_type"));
  CHECK(mentions(llama.with("model_type", "gpt2"), "no n_embd"));
  CHECK(mentions(llama.with("hidden_act", "gelu"), "not silu"));
  CHECK(mentions(llama.with("attention_bias", true), "attention_bias"));
  CHECK(mentions(llama.with("rope_parameters", {{"rope_type", "yarn"}}), "rotary"));
  CHECK(mentions(llama.with("rope_parameters", {{"rope_theta", 0}}), "rope_theta"));
}

TEST_CASE("models: configurations of GPT-2, GPT-J and OPT that lie", "[errors]") {
  model_copy gpt2(golden + "/gpt2-published");
  REQUIRE(gpt2.with("n_head", 3).empty());
  CHECK(mentions(gpt2.with("n_head", 0), "n_head"));
  CHECK(mentions(gpt2.with("n_head", 5), "n_head does not divide n_embd"));
  CHECK(mentions(gpt2.with("n_embd", 27), "tensor wte.weight"));
  CHECK(mentions(gpt2.with("n_positions", 64), "tensor wpe.weight"));
  CHECK(mentions(gpt2.with("n_inner", 95), "tensor h.0.mlp.c_fc.weight"));
  CHECK(mentions(gpt2.with("n_layer", 3), "no tensor h.2."));
  CHECK(mentions(gpt2.with("n_layer", nullptr), "no n_layer"));
  CHECK(mentions(gpt2.with("tie_word_embeddings", false), "no tensor lm_head.weight"));
  CHECK(mentions(gpt2.with("tie_word_embeddings", 1), "wrong type"));
  CHECK(mentions(gpt2.with("activation_function", "relu"), "not gelu_new"));
  CHECK(mentions(gpt2.with("scale_attn_by_inverse_layer_idx", true), "scale_attn_by_inverse_layer_idx"));

  model_copy gptj(golden + "/gptj-partial");
  REQUIRE(gptj.with("n_head", 3).empty());
  CHECK(mentions(gptj.with("rotary_dim", 12), "rotary_dim"));
  CHECK(mentions(gptj.with("rotary_dim", 5), "rotary_dim"));
  CHECK(mentions(gptj.with("rotary", false), "rotary"));
  CHECK(mentions(gptj.with("n_head", 4), "n_head does not divide n_embd"));
  CHECK(mentions(gptj.with("n_embd", 33), "tensor transformer.wte.weight"));
  CHECK(mentions(gptj.with("vocab_size", 66), "tensor transformer.wte.weight"));

  model_copy opt(golden + "/opt-post-norm");
  REQUIRE(opt.with("ffn_dim", 64).empty());
  CHECK(mentions(opt.with("num_attention_heads", 4), "num_attention_heads does not divide hidden_size"));
  CHECK(mentions(opt.with("do_layer_norm_before", true), "no tensor model.decoder.final_layer_norm.weight"));
  CHECK(mentions(opt.with("word_embed_proj_dim", 33), "tensor model.decoder.embed_tokens.weight"));
  CHECK(mentions(opt.with("max_position_embeddings", 72), "tensor model.decoder.embed_positions.weight"));
  CHECK(mentions(opt.with("activation_function", "gelu"), "not relu"));
  CHECK(mentions(opt.with("enable_bias", false), "enable_bias"));
}

TEST_CASE("models: shards that are missing, cut or misnamed", "[errors]") {
  const std::string index = "model.safetensors.index.json", shard = "model-00002-of-00002.safetensors";
  model_copy        gptj(golden + "/gptj-sharded");
  REQUIRE(gptj.load().empty());
  const auto map = read_json(gptj.file(index));

  auto changed = map;
  changed["weight_map"].erase("transformer.ln_f.bias");
  put(gptj.file(index), changed.dump());
  CHECK(mentions(gptj.load(), "no tensor transformer.ln_f.bias"));
  changed["weight_map"]["transformer.ln_f.bias"] = "model-00001-of-00002.safetensors";  // it is in the second
  put(gptj.file(index), changed.dump());
  CHECK(mentions(gptj.load(), "no tensor transformer.ln_f.bias"));
  changed["weight_map"]["transformer.ln_f.bias"] = 2;
  put(gptj.file(index), changed.dump());
  CHECK(mentions(gptj.load(), "transformer.ln_f.bias"));
  for (const char* outside : {"../model.safetensors", "/model.safetensors", ""}) {
    changed["weight_map"]["transformer.ln_f.bias"] = outside;
    put(gptj.file(index), changed.dump());
    CHECK(mentions(gptj.load(), "is no file name"));
  }
  put(gptj.file(index), "{}");
  CHECK(mentions(gptj.load(), "no weight_map"));
  put(gptj.file(index), map.dump());

  const std::string whole = contents(gptj.file(shard));
  put(gptj.file(shard), whole.substr(0, whole.size() - 1));
  CHECK(mentions(gptj.load(), shard + " is truncated: tensor"));
  std::filesystem::remove(gptj.file(shard));
  CHECK(mentions(gptj.load(), "cannot open"));
}

TEST_CASE("models: tokens that do not fit", "[errors]") {
  const decoder              model(golden);
  const std::vector<index_t> unknown = {1, 97}, many(129, 1);
  const auto                 ignore  = [](const attention_input&, matrix&) {};
  CHECK(mentions(complaint([&] { model.forward(unknown, ignore); }), "token id 97"));
  CHECK(mentions(complaint([&] { model.forward(many, ignore); }), "128 positions"));
}

TEST_CASE("encoders: files that are missing or contradict each other", "[errors]") {
  model_copy copy(golden + "/bert-bare");
  const auto with = [&](const char* key, const nlohmann::json& value) {
    copy.with(key, value);
    return complaint([&] { bert model(copy.path()); });
  };
  REQUIRE(with("hidden_size", 42).empty());
  CHECK(mentions(with("model_type", "roberta"), "model_type is roberta"));
  CHECK(mentions(with("hidden_act", "relu"), "hidden_act is not gelu"));
  CHECK(mentions(with("position_embedding_type", "relative_key"), "position_embedding_type"));
  CHECK(mentions(with("is_decoder", true), "is_decoder"));
  CHECK(mentions(with("num_attention_heads", 4), "num_attention_heads does not divide"));
  CHECK(mentions(with("hidden_size", 45), "embeddings.word_embeddings.weight"));
  CHECK(mentions(with("intermediate_size", 71), "encoder.layer.0.intermediate.dense.weight"));
  CHECK(mentions(with("num_hidden_layers", 4), "no tensor encoder.layer.3."));
  CHECK(mentions(with("layer_norm_eps", 0), "layer_norm_eps"));

  REQUIRE(with("hidden_size", 42).empty());
  const bert                 model(copy.path());
  const std::vector<index_t> unknown = {1, 89}, many(65, 1);
  const auto                 ignore  = [](const attention_input&, matrix&) {};
  CHECK(mentions(complaint([&] { model.forward(unknown, ignore); }), "token id 89"));
  CHECK(mentions(complaint([&] { model.forward(many, ignore); }), "64 positions"));
}
