#pragma once
// Decoders of the Llama family: RMSNorm, rotary positions, grouped queries, gated MLP. Qwen2 is a Llama whose queries,
// keys and values have biases; Mistral one that attends within a sliding window.

#include <optional>
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
#include "engine/rope_scaling.hpp"
#include "engine/rotary.hpp"
#include "engine/unsupported.hpp"

namespace engine {

struct llama_config {
  index_t      hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary;
  float        norm_epsilon;
  activation   function;
  rope_scaling positions;
  bool         tied_embeddings, biases;

  std::optional<index_t> sliding_window;  // of every layer

  static llama_config read(const config& file) {
    require_usual_mathematics(file);
    for (const char* bias : {"attention_bias", "mlp_bias"}) file.require_usual(bias);
    const auto type = file.get<std::string>("model_type");
    const bool qwen = type == "qwen2", mistral = type == "mistral";

    llama_config c{};
    c.hidden          = file.size("hidden_size");
    c.intermediate    = file.size("intermediate_size");
    c.layers          = file.size("num_hidden_layers");
    c.heads           = file.size("num_attention_heads");
    c.kv_heads        = file.size("num_key_value_heads", file.contains("num_key_value_heads") ? c.heads
                                                         : qwen                               ? 32
                                                         : mistral                            ? 8
                                                                                              : c.heads);
    c.head_dim        = file.size("head_dim", std::max(1, c.hidden / c.heads));
    c.vocabulary      = file.size("vocab_size");
    c.norm_epsilon    = file.positive("rms_norm_eps", 1e-6f);
    c.function        = read_activation(file, "hidden_act", "silu");
    const int longest = file.size("max_position_embeddings", qwen ? 32768 : mistral ? 131072 : 2048);
    c.positions       = rope_scaling::read(file, longest, c.head_dim);
    if (mistral && (file.has("sliding_window") || !file.contains("sliding_window")))  // null: none
      c.sliding_window = file.size("sliding_window", 4096);
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", false);
    c.biases          = qwen;
    if (c.heads % c.kv_heads != 0) throw bad_input(file.path() + ": the KV heads do not divide the query heads");
    if (!file.has("head_dim") && c.hidden % c.heads != 0)
      throw bad_input(file.path() + ": num_attention_heads does not divide hidden_size, and there is no head_dim");
    if (c.head_dim > std::numeric_limits<index_t>::max() / c.heads)
      throw bad_input(file.path() + ": num_attention_heads times head_dim is too large");
    if (c.head_dim % 2 != 0) throw bad_input(file.path() + ": head_dim is odd");
    return c;
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
  index_t positions() const { return config_.positions.positions(); }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As decoder::forward.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend, index_t first = 0) const {
    matrix       x = embed(tokens, embeddings_, config_.positions.positions(), first), normalized, q, k, v, update;
    matrix       attended(x.rows(), config_.heads * config_.head_dim);
    const rotary positions = config_.positions.angles(first, rows_of(x));
    for (index_t l = 0; l < config_.layers; ++l) {
      const layer& w = layers_[static_cast<std::size_t>(l)];
      rms_norm(x, w.attention_norm, config_.norm_epsilon, normalized, where_);
      w.query(normalized, q, where_);
      w.key(normalized, k, where_);
      w.value(normalized, v, where_);
      positions.apply(q, where_);
      positions.apply(k, where_);
      attend(attention_input{l, config_.heads, config_.kv_heads, x, normalized, q, k, v, config_.sliding_window},
             attended);
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
    affine        query, key, value;
    stored_matrix output;
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
    const auto projection = [&](const char* name, index_t heads) {
      const index_t rows = heads * c.head_dim;
      return affine{map(name, rows, c.hidden), c.biases ? file.load(prefix + name + ".bias", 1, rows) : matrix()};
    };
    return {.attention_norm = norm("input_layernorm"),
            .query          = projection("self_attn.q_proj", c.heads),
            .key            = projection("self_attn.k_proj", c.kv_heads),
            .value          = projection("self_attn.v_proj", c.kv_heads),
            .output         = map("self_attn.o_proj", c.hidden, c.heads * c.head_dim),
            .mlp_norm       = norm("post_attention_layernorm"),
            .mlp            = {.gate     = map("mlp.gate_proj", c.intermediate, c.hidden),
                               .up       = map("mlp.up_proj", c.intermediate, c.hidden),
                               .down     = map("mlp.down_proj", c.hidden, c.intermediate),
                               .function = c.function}};
  }

  backend            where_;
  llama_config       config_;
  stored_matrix      embeddings_;
  matrix             norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
