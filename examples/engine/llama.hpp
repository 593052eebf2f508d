#pragma once
// Decoders of the Llama family: RMSNorm, rotary positions, grouped queries, gated MLP.

#include <span>
#include <string>
#include <vector>

#include "engine/attention_input.hpp"
#include "engine/checkpoint.hpp"
#include "engine/config.hpp"
#include "engine/embedding.hpp"
#include "engine/linear.hpp"
#include "engine/mlp.hpp"
#include "engine/norm.hpp"
#include "engine/rotary.hpp"

namespace engine {

struct llama_config {
  index_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, positions;
  float   norm_epsilon, rope_base;
  bool    tied_embeddings;

  static llama_config read(const config& file) {
    if (file.get<std::string>("hidden_act", "silu") != "silu")
      throw bad_input(file.path() + ": hidden_act is not silu");
    for (const char* bias : {"attention_bias", "mlp_bias"})
      if (file.get<bool>(bias, false)) throw bad_input(file.path() + ": " + bias + " is not supported");

    llama_config c{};
    c.hidden          = file.size("hidden_size");
    c.intermediate    = file.size("intermediate_size");
    c.layers          = file.size("num_hidden_layers");
    c.heads           = file.size("num_attention_heads");
    c.kv_heads        = file.size("num_key_value_heads", c.heads);
    c.head_dim        = file.size("head_dim", std::max(1, c.hidden / c.heads));
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("max_position_embeddings");
    c.norm_epsilon    = file.positive("rms_norm_eps");
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", false);
    c.rope_base       = read_rope_base(file);
    if (c.heads % c.kv_heads != 0) throw bad_input(file.path() + ": the KV heads do not divide the query heads");
    if (file.get<index_t>("head_dim", 0) == 0 && c.hidden % c.heads != 0)
      throw bad_input(file.path() + ": num_attention_heads does not divide hidden_size, and there is no head_dim");
    if (c.head_dim > std::numeric_limits<index_t>::max() / c.heads)
      throw bad_input(file.path() + ": num_attention_heads times head_dim is too large");
    if (c.head_dim % 2 != 0) throw bad_input(file.path() + ": head_dim is odd");
    return c;
  }

 private:
  /// Older files have rope_theta and rope_scaling, newer ones both in rope_parameters.
  static float read_rope_base(const config& file) {
    using object          = std::map<std::string, nlohmann::json>;
    const auto parameters = file.get<object>("rope_parameters", file.get<object>("rope_scaling", {}));
    const auto type       = parameters.find("rope_type");
    if (type != parameters.end() && type->second != "default")
      throw bad_input(file.path() + ": scaled rotary positions are not supported");
    const auto base = parameters.find("rope_theta");
    if (base == parameters.end() || !base->second.is_number()) return file.positive("rope_theta", 10000.0f);
    const float value = base->second.get<float>();
    if (!(value > 0)) throw bad_input("rope_theta in " + file.path() + " must be positive");
    return value;
  }
};

/// Weights of one model; const use from several threads is safe.
class llama {
 public:
  llama(const config& description, const checkpoint& file, backend where)
      : where_(where), config_(llama_config::read(description)) {
    const llama_config& c = config_;
    embeddings_           = file.map("model.embed_tokens.weight", c.vocabulary, c.hidden);
    norm_                 = file.load("model.norm.weight", 1, c.hidden);
    output_.weight        = c.tied_embeddings ? embeddings_ : file.map("lm_head.weight", c.vocabulary, c.hidden);
    for (index_t l = 0; l < c.layers; ++l) layers_.push_back(load_layer(file, l));
  }

  index_t layers() const { return config_.layers; }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As decoder::forward.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend) const {
    const auto   T = static_cast<index_t>(tokens.size());
    matrix       x = embed(tokens, embeddings_, config_.positions), normalized, q, k, v, update;
    matrix       attended(T, config_.heads * config_.head_dim);
    const rotary positions(T, config_.head_dim, config_.rope_base);
    for (index_t l = 0; l < config_.layers; ++l) {
      const layer& w = layers_[static_cast<std::size_t>(l)];
      rms_norm(x, w.attention_norm, config_.norm_epsilon, normalized, where_);
      linear(normalized, w.query, q, where_);
      linear(normalized, w.key, k, where_);
      linear(normalized, w.value, v, where_);
      positions.apply(q, where_);
      positions.apply(k, where_);
      attend(attention_input{l, config_.heads, config_.kv_heads, x, normalized, q, k, v}, attended);
      linear(attended, w.output, update, where_);
      x += update;

      rms_norm(x, w.mlp_norm, config_.norm_epsilon, normalized, where_);
      w.mlp(normalized, update, where_);
      x += update;
    }
    rms_norm(x, norm_, config_.norm_epsilon, normalized, where_);
    return normalized;
  }

 private:
  struct layer {
    matrix        attention_norm;
    stored_matrix query, key, value, output;
    matrix        mlp_norm;
    gated_mlp     mlp;
  };

  layer load_layer(const checkpoint& file, index_t l) const {
    const llama_config& c      = config_;
    const std::string   prefix = "model.layers." + std::to_string(l) + ".";
    const auto          norm   = [&](const char* name) { return file.load(prefix + name + ".weight", 1, c.hidden); };
    const auto          map    = [&](const char* name, index_t rows, index_t cols) {
      return file.map(prefix + name + ".weight", rows, cols);
    };
    return {.attention_norm = norm("input_layernorm"),
            .query          = map("self_attn.q_proj", c.heads * c.head_dim, c.hidden),
            .key            = map("self_attn.k_proj", c.kv_heads * c.head_dim, c.hidden),
            .value          = map("self_attn.v_proj", c.kv_heads * c.head_dim, c.hidden),
            .output         = map("self_attn.o_proj", c.hidden, c.heads * c.head_dim),
            .mlp_norm       = norm("post_attention_layernorm"),
            .mlp            = {.gate = map("mlp.gate_proj", c.intermediate, c.hidden),
                               .up   = map("mlp.up_proj", c.intermediate, c.hidden),
                               .down = map("mlp.down_proj", c.hidden, c.intermediate)}};
  }

  backend            where_;
  llama_config       config_;
  stored_matrix      embeddings_;
  matrix             norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
