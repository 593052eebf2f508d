// Models whose files are missing, damaged, or contradict each other: one sentence that names the key or the tensor.

#include <filesystem>
#include <string>
#include <vector>

#include "bad_input.hpp"
#include "catch.hpp"
#include "engine/bert.hpp"
#include "engine/decoder.hpp"
#include "engine/file.hpp"
#include "model_copy.hpp"

using namespace engine;
using namespace tests;

namespace {

/// The complaint about the golden Llama with other rotary positions.
std::string with_rope(const char* key, const nlohmann::json& value) {
  static const model_copy llama(golden_model);
  nlohmann::json          values = {{"rope_parameters", nullptr}};
  values[key]                    = value;
  return llama.with(values);
}

}  // namespace

TEST_CASE("models: files that are missing or contradict each other", "[errors]") {
  const scratch_folder folder;
  const auto           load = [&] { return complaint([&] { decoder model(folder.path()); }); };
  CHECK(mentions(load(), "cannot open"));
  put(folder.file("config.json"), "{");
  CHECK(mentions(load(), "JSON"));

  model_copy llama(golden_model);
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
  CHECK(mentions(llama.with({{"model_type", "gpt2"}, {"rope_parameters", nullptr}}), "no n_embd"));
  CHECK(mentions(llama.with("hidden_act", "mish"), "hidden_act is mish"));
  CHECK(mentions(llama.with("attention_bias", true), "attention_bias"));
}

TEST_CASE("models: numbers that no type of the program holds", "[errors]") {
  const model_copy llama(golden_model);
  CHECK(mentions(llama.with("hidden_size", 18446744073709551615ULL), "at most"));
  CHECK(mentions(llama.with("hidden_size", -9223372036854775807LL), "at least 1"));
  CHECK(mentions(llama.with("head_dim", 1LL << 33), "head_dim"));
  for (const double value : {1e39, 1e-60, -1.0, 0.0}) {
    CAPTURE(value);
    CHECK(mentions(llama.with("rms_norm_eps", value), "positive and finite"));
    CHECK(mentions(with_rope("rope_parameters", {{"rope_theta", value}}), "rope_theta in rope_parameters in"));
    CHECK(mentions(with_rope("rope_theta", value), "rope_theta in"));
  }
  CHECK(mentions(with_rope("rope_parameters", {{"rope_theta", "nan"}}), "wrong type"));
  CHECK(mentions(with_rope("rope_theta", "nan"), "wrong type"));
}

TEST_CASE("models: rotary positions that are not understood are refused by name", "[errors]") {
  const nlohmann::json llama3 = {
      {"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    CAPTURE(key);
    const auto with = [&](nlohmann::json value, const nlohmann::json& changes = nlohmann::json::object()) {
      value.update(changes);
      return with_rope(key, value);
    };
    CHECK(with(nlohmann::json::object()).empty());
    CHECK(with({{"rope_type", "default"}, {"factor", 1.0}}).empty());
    CHECK(mentions(with({{"factor", 2.0}}), "factor is not supported"));
    CHECK(mentions(with({{"rope_type", "default"}, {"factor", 2.0}}), "factor is not supported"));
    for (const char* type : {"longrope", "su", "mrope", "proportional", ""}) {
      CHECK(with({{"type", type}, {"factor", 2}}) != "");
      CHECK(with({{"rope_type", type}, {"factor", 2}}) != "");
    }
    CHECK(mentions(with({{"type", "longrope"}}), "longrope"));
    CHECK(mentions(with({{"rope_type", "mrope"}}), "mrope"));
    CHECK(mentions(with({{"type", 3}}), "wrong type"));
    CHECK(mentions(with({{"type", "linear"}, {"rope_type", "dynamic"}, {"factor", 2}}), "differ"));
    CHECK(mentions(with({{"full_attention", {{"rope_type", "linear"}}}}), "full_attention is not supported"));
    CHECK(mentions(with({{"partial_rotary_factor", 0.5}}), "partial_rotary_factor is not supported"));
    CHECK(mentions(with({{"mrope_section", {1, 2}}}), "mrope_section is not supported"));
    for (const char* type : {"linear", "dynamic", "yarn"}) {
      CAPTURE(type);
      CHECK(with({{"type", type}, {"factor", 2}}).empty());
      CHECK(mentions(with({{"type", type}}), "has no factor"));
      CHECK(mentions(with({{"type", type}, {"factor", 0.5}}), "at least 1"));
      CHECK(mentions(with({{"type", type}, {"factor", "2"}}), "wrong type"));
      CHECK(mentions(with({{"type", type}, {"factor", 1e39}}), "positive and finite"));
      CHECK(
          mentions(with({{"type", type}, {"factor", 2}, {"low_freq_factor", 1}}), "low_freq_factor is not supported"));
    }
    CHECK(with(llama3).empty());
    CHECK(mentions(with(llama3, {{"low_freq_factor", nullptr}}), "no low_freq_factor"));
    CHECK(mentions(with(llama3, {{"high_freq_factor", 1}}), "must be greater"));
    CHECK(mentions(with(llama3, {{"original_max_position_embeddings", 0}}), "original_max_position_embeddings"));
    const nlohmann::json yarn = {{"rope_type", "yarn"}, {"factor", 2}};
    CHECK(mentions(with(yarn, {{"beta_fast", 1}}), "beta_fast"));
    CHECK(mentions(with(yarn, {{"truncate", 0}}), "wrong type"));
    CHECK(mentions(with(yarn, {{"rope_theta", 1}}), "greater than 1"));
    CHECK(mentions(with(yarn, {{"attention_factor", -1}}), "attention_factor"));
    CHECK(mentions(with_rope(key, "yarn"), "wrong type"));
  }
  CHECK(mentions(model_copy(golden_model).with("rope_scaling", {{"type", "linear"}, {"factor", 2}}), "they differ"));
}

TEST_CASE("models: keys that would change the mathematics are refused by name", "[errors]") {
  for (const char* folder : {"", "/gpt2-published", "/gptj-partial", "/opt-tied"}) {
    CAPTURE(folder);
    const model_copy model(golden_model + folder);
    for (const char* key : {"quantization_config", "use_sliding_window", "final_logit_softcapping", "num_experts"}) {
      CHECK(mentions(model.with(key, 2), std::string(key) + " is not supported"));
      CHECK(model.with(key, nullptr).empty());
      CHECK(model.with(key, false).empty());
    }
    CHECK(mentions(model.with("partial_rotary_factor", 0.5), "partial_rotary_factor is not supported"));
    CHECK(model.with("partial_rotary_factor", 1.0).empty());
    CHECK(mentions(model.with("layer_types", {"full_attention", "sliding_attention"}), "layer_types"));
    CHECK(model.with("layer_types", {"full_attention", "full_attention"}).empty());
    if (folder[0] != 0) CHECK(mentions(model.with("rope_scaling", {{"type", "linear"}}), "rope_scaling is not"));
  }
}

TEST_CASE("models: Qwen2's biases, windows and defaults", "[errors]") {
  const model_copy qwen(golden_model + "/qwen2");
  REQUIRE(qwen.load().empty());
  CHECK(mentions(qwen.with("use_sliding_window", true), "use_sliding_window"));
  CHECK(qwen.with("sliding_window", 4096).empty());
  CHECK(mentions(qwen.with("num_key_value_heads", 3), "k_proj"));
  const auto unnamed = [&](const char* key) {  // without the key, not with null
    auto changed = read_json(golden_model + "/qwen2/config.json");
    changed.erase(key);
    put(qwen.file("config.json"), changed.dump());
    return qwen.load();
  };
  CHECK(mentions(unnamed("num_key_value_heads"), "KV heads"));  // transformers' default is 32
  CHECK(unnamed("max_position_embeddings").empty());

  const model_copy llama(golden_model);
  put(llama.file("model.safetensors"), contents(golden_model + "/qwen2/model.safetensors"));
  auto biased          = read_json(golden_model + "/qwen2/config.json");
  biased["model_type"] = "llama";
  put(llama.file("config.json"), biased.dump());
  const auto unused = decoder(llama.path()).unused();  // a Llama does not know Qwen2's biases, and says so
  CHECK(unused.size() == 3 * biased["num_hidden_layers"].get<std::size_t>());
  CHECK(unused.front() == "model.layers.0.self_attn.k_proj.bias");
  CHECK(
      mentions(model_copy(golden_model).with("model_type", "qwen2"), "no tensor model.layers.0.self_attn.q_proj.bias"));
}

TEST_CASE("models: windows and caps of Mistral and Gemma 2", "[errors]") {
  const auto window_of = [](const std::string& folder, const nlohmann::json& values) {
    const model_copy model(folder);
    REQUIRE(model.with(values).empty());
    std::vector<index_t>       windows;
    const std::vector<index_t> one = {1};
    decoder(model.path()).forward(one, [&](const attention_input& layer, matrix& out) {
      windows.push_back(layer.sliding_window.value_or(0));
      out.setZero();
    });
    return windows;
  };
  using all = std::vector<index_t>;
  CHECK(window_of(golden_model + "/mistral", nlohmann::json::object()) == all{13, 13});
  CHECK(window_of(golden_model + "/mistral", {{"sliding_window", nullptr}}) == all{0, 0});
  CHECK(window_of(golden_model + "/gemma2", nlohmann::json::object()) == all{13, 0, 13});
  CHECK(window_of(golden_model + "/gemma2", {{"layer_types", nullptr}}) == all{13, 0, 13});
  CHECK(window_of(golden_model + "/gemma2",
                  {{"layer_types", {"full_attention", "sliding_attention", "full_attention"}}}) == all{0, 13, 0});
  const model_copy mistral(golden_model + "/mistral"), gemma(golden_model + "/gemma2");
  CHECK(mentions(mistral.with("sliding_window", 0), "sliding_window"));
  CHECK(mentions(mistral.with("attn_logit_softcapping", 50), "attn_logit_softcapping is not supported"));
  CHECK(mentions(gemma.with("attn_logit_softcapping", -1), "attn_logit_softcapping"));
  CHECK(gemma.with("attn_logit_softcapping", nullptr).empty());
  CHECK(gemma.with("final_logit_softcapping", nullptr).empty());
  CHECK(mentions(gemma.with("query_pre_attn_scalar", 0), "query_pre_attn_scalar"));
  CHECK(mentions(gemma.with("layer_types", {"full_attention"}), "layer_types has not one entry for each"));
  CHECK(mentions(gemma.with("layer_types", {"full_attention", "chunked_attention", "full_attention"}),
                 "layer_types other than full_attention and sliding_attention"));
  CHECK(mentions(gemma.with("use_bidirectional_attention", true), "use_bidirectional_attention"));
}

TEST_CASE("models: positions and epsilons have the defaults of transformers", "[errors]") {
  const auto positions_of = [](const std::string& folder, const nlohmann::json& values) {
    const model_copy model(folder);
    REQUIRE(model.with(values).empty());
    const decoder              read(model.path());
    const std::vector<index_t> many(40000, 1);
    return complaint([&] { read.forward(many, [](const attention_input&, matrix&) {}); });
  };
  CHECK(mentions(positions_of(golden_model, {{"max_position_embeddings", nullptr}}), "2048 positions"));
  CHECK(mentions(positions_of(golden_model + "/qwen2", {{"max_position_embeddings", nullptr}}), "32768 positions"));
  CHECK(mentions(positions_of(golden_model + "/gptj-partial", {{"n_positions", nullptr}}), "2048 positions"));
  // Learned positions have to fit their table, which is smaller here.
  CHECK(mentions(model_copy(golden_model + "/gpt2-untied").with("n_positions", nullptr), "wpe.weight"));
  CHECK(mentions(model_copy(golden_model + "/opt-tied").with("max_position_embeddings", nullptr),
                 "embed_positions.weight"));

  // Scaling reaches farther than training did.
  const nlohmann::json linear = {{"type", "linear"}, {"factor", 2.5}};
  CHECK(
      mentions(positions_of(golden_model, {{"rope_parameters", nullptr}, {"rope_scaling", linear}}), "320 positions"));

  CHECK(mentions(positions_of(golden_model + "/llama-dynamic", nlohmann::json::object()), "64 positions"));
  CHECK(mentions(positions_of(golden_model + "/llama-yarn", nlohmann::json::object()), "160 positions"));
  CHECK(mentions(positions_of(golden_model + "/llama-llama3", nlohmann::json::object()), "64 positions"));

  const auto result = [](const std::string& folder, const nlohmann::json& values) {
    const model_copy model(folder);
    REQUIRE(model.with(values).empty());
    const std::vector<index_t> ids = {1, 2, 3, 4};
    return decoder(model.path()).forward(ids, [](const attention_input&, matrix& out) { out.setZero(); });
  };
  CHECK(result(golden_model, {{"rms_norm_eps", nullptr}}) == result(golden_model, {{"rms_norm_eps", 1e-6}}));
  for (const char* folder : {"/gpt2-untied", "/gptj-partial"}) {
    const std::string model = golden_model + folder;
    CHECK(result(model, {{"layer_norm_epsilon", nullptr}}) == result(model, {{"layer_norm_epsilon", 1e-5}}));
    // One function under three names, of which these models have the first.
    for (const char* name : {"gelu_fast", "gelu_pytorch_tanh"})
      CHECK(result(model, {{"activation_function", name}}) == result(model, {{"activation_function", "gelu_new"}}));
    CHECK(result(model, {{"activation_function", "gelu"}}) != result(model, {{"activation_function", "gelu_new"}}));
  }
}

TEST_CASE("models: tensors that the model does not use are named, tables that anybody can compute are not",
          "[errors]") {
  for (const char* folder : {"", "/gpt2-published", "/gptj-sharded", "/opt-post-norm", "/qwen2"})
    CHECK(decoder(golden_model + folder).unused().empty());
  const model_copy gptj(golden_model + "/gptj-sharded");
  REQUIRE(gptj.with("n_layer", 1).empty());
  const auto unused = decoder(gptj.path()).unused();
  REQUIRE(unused.size() == 10);
  CHECK(unused.front() == "transformer.h.1.attn.k_proj.weight");
  const model_copy bert_copy(golden_model + "/bert-first");
  bert_copy.with("num_hidden_layers", 1);
  CHECK(bert(bert_copy.path()).unused().size() > bert(golden_model + "/bert-first").unused().size());
}

TEST_CASE("models: configurations of GPT-2, GPT-J and OPT that lie", "[errors]") {
  model_copy gpt2(golden_model + "/gpt2-published");
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
  CHECK(mentions(gpt2.with("activation_function", "quick_gelu"), "activation_function is quick_gelu"));
  CHECK(mentions(gpt2.with("scale_attn_by_inverse_layer_idx", true), "scale_attn_by_inverse_layer_idx"));

  model_copy gptj(golden_model + "/gptj-partial");
  REQUIRE(gptj.with("n_head", 3).empty());
  CHECK(mentions(gptj.with("rotary_dim", 12), "rotary_dim"));
  CHECK(mentions(gptj.with("rotary_dim", 5), "rotary_dim"));
  CHECK(mentions(gptj.with("rotary", false), "rotary"));
  CHECK(mentions(gptj.with("n_head", 4), "n_head does not divide n_embd"));
  CHECK(mentions(gptj.with("n_embd", 33), "tensor transformer.wte.weight"));
  CHECK(mentions(gptj.with("vocab_size", 66), "tensor transformer.wte.weight"));

  model_copy opt(golden_model + "/opt-post-norm");
  REQUIRE(opt.with("ffn_dim", 64).empty());
  CHECK(mentions(opt.with("num_attention_heads", 4), "num_attention_heads does not divide hidden_size"));
  CHECK(mentions(opt.with("do_layer_norm_before", true), "no tensor model.decoder.final_layer_norm.weight"));
  CHECK(mentions(opt.with("word_embed_proj_dim", 33), "tensor model.decoder.embed_tokens.weight"));
  CHECK(mentions(opt.with("max_position_embeddings", 72), "tensor model.decoder.embed_positions.weight"));
  CHECK(mentions(opt.with("activation_function", "mish"), "activation_function is mish"));
  CHECK(mentions(opt.with("enable_bias", false), "enable_bias"));
}

TEST_CASE("models: shards that are missing, cut or misnamed", "[errors]") {
  const std::string index = "model.safetensors.index.json", shard = "model-00002-of-00002.safetensors";
  model_copy        gptj(golden_model + "/gptj-sharded");
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
  const decoder              model(golden_model);
  const std::vector<index_t> unknown = {1, 97}, many(129, 1);
  const auto                 ignore  = [](const attention_input&, matrix&) {};
  CHECK(mentions(complaint([&] { model.forward(unknown, ignore); }), "token id 97"));
  CHECK(mentions(complaint([&] { model.forward(many, ignore); }), "128 positions"));
}

TEST_CASE("encoders: files that are missing or contradict each other", "[errors]") {
  model_copy copy(golden_model + "/bert-bare");
  const auto with = [&](const char* key, const nlohmann::json& value) {
    copy.with(key, value);
    return complaint([&] { bert model(copy.path()); });
  };
  REQUIRE(with("hidden_size", 42).empty());
  CHECK(mentions(with("model_type", "roberta"), "model_type is roberta"));
  CHECK(mentions(with("hidden_act", "mish"), "hidden_act is mish"));
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
