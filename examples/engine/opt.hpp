#pragma once
// OPT: learned positions that start at row 2, LayerNorm before each half of a layer, biases, ReLU.

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

namespace engine {

struct opt_config {
  static constexpr index_t first_position = 2;  // rows of the table before position 0
  static constexpr float   norm_epsilon   = 1e-5f;

  index_t hidden, intermediate, layers, heads, vocabulary, positions;
  bool    tied_embeddings;

  static opt_config read(const config& file) {
    if (file.get<std::string>("activation_function", "relu") != "relu")
      throw bad_input(file.path() + ": activation_function is not relu");
    if (!file.get<bool>("do_layer_norm_before", true))
      throw bad_input(file.path() + ": do_layer_norm_before = false (OPT-350m) is not supported");
    for (const char* there : {"enable_bias", "layer_norm_elementwise_affine"})
      if (!file.get<bool>(there, true)) throw bad_input(file.path() + ": " + there + " = false is not supported");
    if (file.get<bool>("_remove_final_layer_norm", false))
      throw bad_input(file.path() + ": _remove_final_layer_norm is not supported");

    opt_config c{};
    c.hidden          = file.size("hidden_size");
    c.intermediate    = file.size("ffn_dim");
    c.layers          = file.size("num_hidden_layers");
    c.heads           = file.size("num_attention_heads");
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("max_position_embeddings");
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", true);
    if (file.size("word_embed_proj_dim", c.hidden) != c.hidden)
      throw bad_input(file.path() + ": word_embed_proj_dim other than hidden_size (OPT-350m) is not supported");
    if (c.hidden % c.heads != 0) throw bad_input(file.path() + ": num_attention_heads does not divide hidden_size");
    return c;
  }
};

/// Weights of one model; const use from several threads is safe.
class opt {
 public:
  opt(const config& description, checkpoint& file, backend where)
      : where_(where), config_(opt_config::read(description)) {
    const opt_config& c = config_;
    // Older files begin at "decoder", newer ones at "model.decoder".
    const std::string prefix = file.contains("decoder.embed_tokens.weight") ? "decoder." : "model.decoder.";
    embeddings_              = file.load(prefix + "embed_tokens.weight", c.vocabulary, c.hidden);
    positions_     = file.load(prefix + "embed_positions.weight", c.positions + opt_config::first_position, c.hidden);
    norm_          = load_norm(file, prefix + "final_layer_norm");
    output_.weight = c.tied_embeddings ? embeddings_ : file.load("lm_head.weight", c.vocabulary, c.hidden);
    for (index_t l = 0; l < c.layers; ++l)
      layers_.push_back(load_layer(file, prefix + "layers." + std::to_string(l) + "."));
  }

  index_t layers() const { return config_.layers; }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As llama::forward.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend) const {
    const opt_config& c       = config_;
    const float       epsilon = opt_config::norm_epsilon;
    matrix x = embed(tokens, embeddings_, c.positions), normalized, q, k, v, attended(x.rows(), c.hidden), update;
    x += positions_.middleRows(opt_config::first_position, x.rows());
    for (index_t l = 0; l < c.layers; ++l) {
      const layer& w = layers_[static_cast<std::size_t>(l)];
      w.attention_norm(x, epsilon, normalized, where_);
      w.query(normalized, q, where_);
      w.key(normalized, k, where_);
      w.value(normalized, v, where_);
      attend(attention_input{l, c.heads, c.heads, x, normalized, q, k, v}, attended);
      w.output(attended, update, where_);
      x += update;

      w.mlp_norm(x, epsilon, normalized, where_);
      w.mlp(normalized, update, where_);
      x += update;
    }
    norm_(x, epsilon, normalized, where_);
    return normalized;
  }

 private:
  struct layer {
    layer_norm      attention_norm;
    affine          query, key, value, output;
    layer_norm      mlp_norm;
    plain_mlp<relu> mlp;
  };

  layer_norm load_norm(checkpoint& file, const std::string& name) const {
    return {file.load(name + ".weight", 1, config_.hidden), file.load(name + ".bias", 1, config_.hidden)};
  }

  static affine load_affine(checkpoint& file, const std::string& name, index_t out, index_t in) {
    return {file.load(name + ".weight", out, in), file.load(name + ".bias", 1, out)};
  }

  layer load_layer(checkpoint& file, const std::string& prefix) const {
    const index_t hidden = config_.hidden;
    return {.attention_norm = load_norm(file, prefix + "self_attn_layer_norm"),
            .query          = load_affine(file, prefix + "self_attn.q_proj", hidden, hidden),
            .key            = load_affine(file, prefix + "self_attn.k_proj", hidden, hidden),
            .value          = load_affine(file, prefix + "self_attn.v_proj", hidden, hidden),
            .output         = load_affine(file, prefix + "self_attn.out_proj", hidden, hidden),
            .mlp_norm       = load_norm(file, prefix + "final_layer_norm"),
            .mlp            = {.raise = load_affine(file, prefix + "fc1", config_.intermediate, hidden),
                               .lower = load_affine(file, prefix + "fc2", hidden, config_.intermediate)}};
  }

  backend            where_;
  opt_config         config_;
  matrix             embeddings_, positions_;
  layer_norm         norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
