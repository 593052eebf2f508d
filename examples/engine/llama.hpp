#pragma once
// Decoders of the Llama family: RMSNorm, rotary positions, grouped queries, gated MLP. Qwen2 is a Llama whose queries,
// keys and values have biases; Mistral one that attends within a sliding window; Gemma 2 (arXiv:2408.00118) one with
// windows in some of its layers, caps on its logits, norms behind each half of a layer too, and larger embeddings.

#include <cmath>
#include <optional>
#include <set>
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

  std::vector<std::optional<index_t>> sliding_windows;  // of each layer
  std::optional<float>                scale, softcap;   // of attention's logits
  std::optional<float>                output_cap;
  float                               embedding_scale = 1, norm_shift = 0;
  bool                                outer_norms = false;  // behind attention and MLP

  static llama_config read(const config& file) {
    const auto type = file.get<std::string>("model_type");
    const bool qwen = type == "qwen2", mistral = type == "mistral", gemma = type == "gemma2";
    require_usual_mathematics(file, gemma ? std::set<std::string>{"attn_logit_softcapping", "final_logit_softcapping",
                                                                  "query_pre_attn_scalar", "layer_types"}
                                          : std::set<std::string>{});
    for (const char* bias : {"attention_bias", "mlp_bias"}) file.require_usual(bias);

    llama_config c{};
    c.hidden          = file.size("hidden_size");
    c.intermediate    = file.size("intermediate_size");
    c.layers          = file.size("num_hidden_layers");
    c.heads           = file.size("num_attention_heads");
    c.kv_heads        = file.size("num_key_value_heads", file.contains("num_key_value_heads") ? c.heads
                                                         : qwen                               ? 32
                                                         : mistral                            ? 8
                                                         : gemma                              ? 4
                                                                                              : c.heads);
    c.head_dim        = file.size("head_dim", gemma ? 256 : std::max(1, c.hidden / c.heads));
    c.vocabulary      = file.size("vocab_size");
    c.norm_epsilon    = file.positive("rms_norm_eps", 1e-6f);
    c.function        = gemma ? read_activation(file, "hidden_activation", "gelu_pytorch_tanh")
                              : read_activation(file, "hidden_act", "silu");
    const int longest = file.size("max_position_embeddings", qwen ? 32768 : mistral ? 131072 : gemma ? 8192 : 2048);
    c.positions       = rope_scaling::read(file, longest, c.head_dim);
    c.sliding_windows.resize(static_cast<std::size_t>(c.layers));
    if ((mistral || gemma) && (file.has("sliding_window") || !file.contains("sliding_window")))  // null: none
      c.sliding_windows.assign(static_cast<std::size_t>(c.layers), file.size("sliding_window", 4096));
    if (gemma) c.read_gemma(file);
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", gemma);
    c.biases          = qwen;
    if (c.heads % c.kv_heads != 0) throw bad_input(file.path() + ": the KV heads do not divide the query heads");
    if (!file.has("head_dim") && c.hidden % c.heads != 0)
      throw bad_input(file.path() + ": num_attention_heads does not divide hidden_size, and there is no head_dim");
    if (c.head_dim > std::numeric_limits<index_t>::max() / c.heads)
      throw bad_input(file.path() + ": num_attention_heads times head_dim is too large");
    if (c.head_dim % 2 != 0) throw bad_input(file.path() + ": head_dim is odd");
    return c;
  }

 private:
  void read_gemma(const config& file) {
    const auto cap = [&](const char* key, float usual) -> std::optional<float> {
      return file.has(key) || !file.contains(key) ? std::optional(file.positive(key, usual)) : std::nullopt;
    };
    outer_norms = true, norm_shift = 1;
    embedding_scale = std::sqrt(static_cast<float>(hidden));
    scale           = 1 / std::sqrt(file.positive("query_pre_attn_scalar", 256));
    softcap         = cap("attn_logit_softcapping", 50);
    output_cap      = cap("final_logit_softcapping", 30);
    if (!file.has("layer_types")) {  // every second one sees all tokens
      for (std::size_t l = 1; l < sliding_windows.size(); l += 2) sliding_windows[l].reset();
      return;
    }
    const nlohmann::json& types = file.json().at("layer_types");
    if (!types.is_array() || types.size() != sliding_windows.size())
      throw bad_input(file.path() + ": layer_types has not one entry for each of num_hidden_layers");
    for (std::size_t l = 0; l < types.size(); ++l) {
      if (types[l] == "full_attention")
        sliding_windows[l].reset();
      else if (types[l] != "sliding_attention")
        throw bad_input(file.path() +
                        ": layer_types other than full_attention and sliding_attention are not supported");
    }
  }
};

/// Weights of one model; const use from several threads is safe.
class llama {
 public:
  llama(const config& description, const checkpoint& file, backend where)
      : where_(where), config_(llama_config::read(description)) {
    const llama_config& c = config_;
    embeddings_           = file.map("model.embed_tokens.weight", c.vocabulary, c.hidden);
    norm_                 = file.load("model.norm.weight", 1, c.hidden).array() + c.norm_shift;
    output_.weight        = c.tied_embeddings ? embeddings_ : file.map("lm_head.weight", c.vocabulary, c.hidden);
    output_.cap           = c.output_cap;
    for (index_t l = 0; l < c.layers; ++l) layers_.push_back(load_layer(file, l));
  }

  index_t layers() const { return config_.layers; }
  index_t positions() const { return config_.positions.positions(); }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As decoder::forward.
  matrix forward(std::span<const index_t> tokens, const attention_function& attend, index_t first) const {
    matrix       x = embed(tokens, embeddings_, config_.positions.positions(), first), normalized, q, k, v, update;
    matrix       attended(x.rows(), config_.heads * config_.head_dim);
    const rotary positions = config_.positions.angles(first, rows_of(x));
    if (config_.embedding_scale != 1) x *= config_.embedding_scale;
    for (index_t l = 0; l < config_.layers; ++l) {
      const layer& w = layers_[static_cast<std::size_t>(l)];
      rms_norm(x, w.attention_norm, config_.norm_epsilon, normalized, where_);
      w.query(normalized, q, where_);
      w.key(normalized, k, where_);
      w.value(normalized, v, where_);
      positions.apply(q, where_);
      positions.apply(k, where_);
      attend(attention_input{l, config_.heads, config_.kv_heads, x, normalized, q, k, v,
                             config_.sliding_windows[static_cast<std::size_t>(l)], config_.scale, config_.softcap},
             attended);
      linear(attended, w.output, update, where_);
      add(update, w.attention_outer_norm, normalized, x);

      rms_norm(x, w.mlp_norm, config_.norm_epsilon, normalized, where_);
      w.mlp(normalized, update, where_);
      add(update, w.mlp_outer_norm, normalized, x);
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
    matrix        attention_outer_norm, mlp_outer_norm;  // or empty
  };

  /// x += update, normalised if there is a norm; `room` is for that.
  void add(const matrix& update, const matrix& norm, matrix& room, matrix& x) const {
    if (norm.size() == 0) {
      x += update;
    } else {
      rms_norm(update, norm, config_.norm_epsilon, room, where_);
      x += room;
    }
  }

  layer load_layer(const checkpoint& file, index_t l) const {
    const llama_config& c      = config_;
    const std::string   prefix = "model.layers." + std::to_string(l) + ".";
    const auto          norm   = [&](const char* name) -> matrix {
      return file.load(prefix + name + ".weight", 1, c.hidden).array() + c.norm_shift;
    };
    const bool outer = c.outer_norms;
    const auto map   = [&](const char* name, index_t rows, index_t cols) {
      return file.map(prefix + name + ".weight", rows, cols);
    };
    const auto projection = [&](const char* name, index_t heads) {
      const index_t rows = heads * c.head_dim;
      return affine{map(name, rows, c.hidden), c.biases ? file.load(prefix + name + ".bias", 1, rows) : matrix()};
    };
    return {.attention_norm       = norm("input_layernorm"),
            .query                = projection("self_attn.q_proj", c.heads),
            .key                  = projection("self_attn.k_proj", c.kv_heads),
            .value                = projection("self_attn.v_proj", c.kv_heads),
            .output               = map("self_attn.o_proj", c.hidden, c.heads * c.head_dim),
            .mlp_norm             = norm(outer ? "pre_feedforward_layernorm" : "post_attention_layernorm"),
            .mlp                  = {.gate     = map("mlp.gate_proj", c.intermediate, c.hidden),
                                     .up       = map("mlp.up_proj", c.intermediate, c.hidden),
                                     .down     = map("mlp.down_proj", c.hidden, c.intermediate),
                                     .function = c.function},
            .attention_outer_norm = outer ? norm("post_attention_layernorm") : matrix(),
            .mlp_outer_norm       = outer ? norm("post_feedforward_layernorm") : matrix()};
  }

  backend            where_;
  llama_config       config_;
  stored_matrix      embeddings_;
  matrix             norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
