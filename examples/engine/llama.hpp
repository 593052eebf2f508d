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
    c.head_dim        = file.size("head_dim", c.hidden / c.heads);
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("max_position_embeddings");
    c.norm_epsilon    = file.get<float>("rms_norm_eps");
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", false);
    c.rope_base       = read_rope_base(file);
    if (c.heads % c.kv_heads != 0) throw bad_input(file.path() + ": the KV heads do not divide the query heads");
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
    return base != parameters.end() && base->second.is_number() ? base->second.get<float>()
                                                                : file.get<float>("rope_theta", 10000.0f);
  }
};

/// Weights of one model; const use from several threads is safe.
class llama {
 public:
  llama(const config& description, checkpoint& file, backend where)
      : where_(where), config_(llama_config::read(description)) {
    const llama_config& c = config_;
    embeddings_           = file.load("model.embed_tokens.weight", c.vocabulary, c.hidden);
    norm_                 = file.load("model.norm.weight", 1, c.hidden);
    output_.weight = c.tied_embeddings ? embeddings_ : file.load("lm_head.weight", c.vocabulary, c.hidden);
    for (index_t l = 0; l < c.layers; ++l) layers_.push_back(load_layer(file, l));
  }

  index_t layers() const { return config_.layers; }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// Runs tokens at positions 0 .. T-1 through all layers and returns the final hidden states, normalised [T, hidden].
  /// In each layer `attend(attention_input, out)` fills out [T, heads * head_dim].
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend) const {
    const auto   T = static_cast<index_t>(tokens.size());
    const rotary positions(T, config_.head_dim, config_.rope_base);
    matrix       x = embed(tokens, embeddings_, config_.positions), normalized, q, k, v, attended(T, config_.heads * config_.head_dim), update;
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
    matrix    attention_norm, query, key, value, output, mlp_norm;
    gated_mlp mlp;
  };

  layer load_layer(checkpoint& file, index_t l) const {
    const llama_config& c    = config_;
    const auto          load = [&](const char* name, index_t rows, index_t cols) {
      return file.load("model.layers." + std::to_string(l) + "." + name + ".weight", rows, cols);
    };
    return {.attention_norm = load("input_layernorm", 1, c.hidden),
            .query          = load("self_attn.q_proj", c.heads * c.head_dim, c.hidden),
            .key            = load("self_attn.k_proj", c.kv_heads * c.head_dim, c.hidden),
            .value          = load("self_attn.v_proj", c.kv_heads * c.head_dim, c.hidden),
            .output         = load("self_attn.o_proj", c.hidden, c.heads * c.head_dim),
            .mlp_norm       = load("post_attention_layernorm", 1, c.hidden),
            .mlp            = {.gate = load("mlp.gate_proj", c.intermediate, c.hidden),
                               .up   = load("mlp.up_proj", c.intermediate, c.hidden),
                               .down = load("mlp.down_proj", c.hidden, c.intermediate)}};
  }

  backend            where_;
  llama_config       config_;
  matrix             embeddings_, norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
