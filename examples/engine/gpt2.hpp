#pragma once
// GPT-2: learned positions, LayerNorm, fused query-key-value projection, biases, gelu_new.

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

struct gpt2_config {
  index_t hidden, intermediate, layers, heads, vocabulary, positions;
  float   norm_epsilon;
  bool    tied_embeddings;

  static gpt2_config read(const config& file) {
    if (file.get<std::string>("activation_function", "gelu_new") != "gelu_new")
      throw bad_input(file.path() + ": activation_function is not gelu_new");
    if (!file.get<bool>("scale_attn_weights", true))
      throw bad_input(file.path() + ": scale_attn_weights = false is not supported");
    if (file.get<bool>("scale_attn_by_inverse_layer_idx", false))
      throw bad_input(file.path() + ": scale_attn_by_inverse_layer_idx is not supported");

    gpt2_config c{};
    c.hidden          = file.size("n_embd");
    c.intermediate    = file.size("n_inner", 4 * c.hidden);
    c.layers          = file.size("n_layer");
    c.heads           = file.size("n_head");
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("n_positions");
    c.norm_epsilon    = file.get<float>("layer_norm_epsilon");
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", true);
    if (c.hidden % c.heads != 0) throw bad_input(file.path() + ": n_head does not divide n_embd");
    return c;
  }
};

/// Weights of one model; const use from several threads is safe.
class gpt2 {
 public:
  gpt2(const config& description, checkpoint& file, backend where)
      : where_(where), config_(gpt2_config::read(description)) {
    const gpt2_config& c = config_;
    // OpenAI's own files have no prefix; those that transformers writes have one.
    const std::string prefix = file.contains("wte.weight") ? "" : "transformer.";
    embeddings_              = file.load(prefix + "wte.weight", c.vocabulary, c.hidden);
    positions_               = file.load(prefix + "wpe.weight", c.positions, c.hidden);
    norm_                    = load_norm(file, prefix + "ln_f");
    output_.weight           = c.tied_embeddings ? embeddings_ : file.load("lm_head.weight", c.vocabulary, c.hidden);
    for (index_t l = 0; l < c.layers; ++l)
      layers_.push_back(load_layer(file, prefix + "h." + std::to_string(l) + "."));
  }

  index_t layers() const { return config_.layers; }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As llama::forward.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend) const {
    const gpt2_config& c = config_;
    matrix x = embed(tokens, embeddings_, c.positions), normalized, q, k, v, attended(x.rows(), c.hidden), update;
    x += positions_.topRows(x.rows());
    for (index_t l = 0; l < c.layers; ++l) {
      const layer& w = layers_[static_cast<std::size_t>(l)];
      w.attention_norm(x, c.norm_epsilon, normalized, where_);
      w.query(normalized, q, where_);
      w.key(normalized, k, where_);
      w.value(normalized, v, where_);
      attend(attention_input{l, c.heads, c.heads, x, normalized, q, k, v}, attended);
      w.output(attended, update, where_);
      x += update;

      w.mlp_norm(x, c.norm_epsilon, normalized, where_);
      w.mlp(normalized, update, where_);
      x += update;
    }
    norm_(x, c.norm_epsilon, normalized, where_);
    return normalized;
  }

 private:
  struct layer {
    layer_norm          attention_norm;
    affine              query, key, value, output;
    layer_norm          mlp_norm;
    plain_mlp<gelu_new> mlp;
  };

  layer_norm load_norm(checkpoint& file, const std::string& name) const {
    return {file.load(name + ".weight", 1, config_.hidden), file.load(name + ".bias", 1, config_.hidden)};
  }

  /// GPT-2 stores its weights as [in, out].
  static affine load_affine(checkpoint& file, const std::string& name, index_t out, index_t in) {
    return {file.load(name + ".weight", in, out).transpose(), file.load(name + ".bias", 1, out)};
  }

  layer load_layer(checkpoint& file, const std::string& prefix) const {
    const index_t hidden = config_.hidden;
    const affine  fused  = load_affine(file, prefix + "attn.c_attn", 3 * hidden, hidden);
    const auto    third  = [&](index_t i) {
      return affine{fused.weight.middleRows(i * hidden, hidden), fused.bias.middleCols(i * hidden, hidden)};
    };
    return {.attention_norm = load_norm(file, prefix + "ln_1"),
            .query          = third(0),
            .key            = third(1),
            .value          = third(2),
            .output         = load_affine(file, prefix + "attn.c_proj", hidden, hidden),
            .mlp_norm       = load_norm(file, prefix + "ln_2"),
            .mlp            = {.raise = load_affine(file, prefix + "mlp.c_fc", config_.intermediate, hidden),
                               .lower = load_affine(file, prefix + "mlp.c_proj", hidden, config_.intermediate)}};
  }

  backend            where_;
  gpt2_config        config_;
  matrix             embeddings_, positions_;
  layer_norm         norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
