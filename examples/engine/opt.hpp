#pragma once
// OPT: learned positions that start at row 2, LayerNorms, biases, ReLU. OPT-350m normalises after each half of a layer,
// and its embeddings are narrower than its layers.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/attention_input.hpp"
#include "engine/checkpoint.hpp"
#include "engine/config.hpp"
#include "engine/embedding.hpp"
#include "engine/plain_layer.hpp"
#include "engine/unsupported.hpp"

namespace engine {

struct opt_config {
  static constexpr index_t first_position = 2;  // rows of the table before position 0
  static constexpr float   norm_epsilon   = 1e-5f;

  index_t    hidden, intermediate, layers, heads, vocabulary, positions, embedding_width;
  activation function;
  norm_place place;
  bool       final_norm, tied_embeddings;

  static opt_config read(const config& file) {
    require_usual_mathematics(file), require_usual_positions(file);
    for (const char* there : {"enable_bias", "layer_norm_elementwise_affine"})
      if (!file.get<bool>(there, true)) throw bad_input(file.path() + ": " + there + " = false is not supported");

    opt_config c{};
    c.hidden          = file.size("hidden_size");
    c.intermediate    = file.size("ffn_dim");
    c.layers          = file.size("num_hidden_layers");
    c.heads           = file.size("num_attention_heads");
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("max_position_embeddings", 2048);
    c.function        = read_activation(file, "activation_function", "relu");
    c.embedding_width = file.size("word_embed_proj_dim", c.hidden);
    c.place           = file.get<bool>("do_layer_norm_before", true) ? norm_place::before : norm_place::after;
    c.final_norm      = c.place == norm_place::before && !file.get<bool>("_remove_final_layer_norm", false);
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", true);
    if (c.hidden % c.heads != 0) throw bad_input(file.path() + ": num_attention_heads does not divide hidden_size");
    return c;
  }
};

/// Weights of one model; const use from several threads is safe.
class opt {
 public:
  opt(const config& description, const checkpoint& file, backend where)
      : where_(where), config_(opt_config::read(description)) {
    const opt_config& c = config_;
    // Older files begin at "decoder", newer ones at "model.decoder".
    const std::string prefix = file.contains("decoder.embed_tokens.weight") ? "decoder." : "model.decoder.";
    embeddings_              = file.map(prefix + "embed_tokens.weight", c.vocabulary, c.embedding_width);
    positions_ = file.load(prefix + "embed_positions.weight", c.positions + opt_config::first_position, c.hidden);
    if (c.embedding_width != c.hidden) {
      widen_  = file.map(prefix + "project_in.weight", c.hidden, c.embedding_width);
      narrow_ = file.map(prefix + "project_out.weight", c.embedding_width, c.hidden);
    }
    if (c.final_norm) norm_ = load_norm(file, prefix + "final_layer_norm", c.hidden);
    output_.weight = c.tied_embeddings ? embeddings_ : file.map("lm_head.weight", c.vocabulary, c.embedding_width);
    for (index_t l = 0; l < c.layers; ++l)
      layers_.push_back(load_layer(file, prefix + "layers." + std::to_string(l) + "."));
  }

  index_t layers() const { return config_.layers; }
  index_t positions() const { return config_.positions; }

  /// Turns final hidden states into logits: [vocabulary, embedding_width].
  const affine& output() const { return output_; }

  /// As decoder::forward; final hidden states have the embeddings' width.
  matrix forward(std::span<const index_t> tokens, const attention_function& attend, index_t first) const {
    const opt_config& c = config_;
    matrix            x = embed(tokens, embeddings_, c.positions, first), changed;
    if (widen_) linear(x, *widen_, changed, where_), x.swap(changed);
    x += positions_.middleRows(opt_config::first_position + first, x.rows());
    for (index_t l = 0; l < c.layers; ++l)
      layers_[static_cast<std::size_t>(l)](l, c.heads, opt_config::norm_epsilon, c.place, x, attend, where_);
    if (norm_) (*norm_)(x, opt_config::norm_epsilon, changed, where_), x.swap(changed);
    if (narrow_) linear(x, *narrow_, changed, where_), x.swap(changed);
    return x;
  }

 private:
  plain_layer load_layer(const checkpoint& file, const std::string& prefix) const {
    const index_t hidden = config_.hidden, wide = config_.intermediate;
    return {.query          = load_affine(file, prefix + "self_attn.q_proj", hidden, hidden),
            .key            = load_affine(file, prefix + "self_attn.k_proj", hidden, hidden),
            .value          = load_affine(file, prefix + "self_attn.v_proj", hidden, hidden),
            .output         = load_affine(file, prefix + "self_attn.out_proj", hidden, hidden),
            .attention_norm = load_norm(file, prefix + "self_attn_layer_norm", hidden),
            .mlp            = {.raise    = load_affine(file, prefix + "fc1", wide, hidden),
                               .lower    = load_affine(file, prefix + "fc2", hidden, wide),
                               .function = config_.function},
            .mlp_norm       = load_norm(file, prefix + "final_layer_norm", hidden)};
  }

  backend                      where_;
  opt_config                   config_;
  stored_matrix                embeddings_;
  std::optional<stored_matrix> widen_, narrow_;  // between the widths of embeddings and layers, where they differ
  matrix                       positions_;
  std::optional<layer_norm>    norm_;
  affine                       output_;
  std::vector<plain_layer>     layers_;
};

}  // namespace engine
