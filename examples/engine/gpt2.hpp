#pragma once
// GPT-2: learned positions, LayerNorm, fused query-key-value projection, biases, gelu_new.

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

struct gpt2_config {
  index_t    hidden, intermediate, layers, heads, vocabulary, positions;
  float      norm_epsilon;
  activation function;
  bool       tied_embeddings;

  static gpt2_config read(const config& file) {
    require_usual_mathematics(file), require_usual_positions(file);
    if (!file.get<bool>("scale_attn_weights", true))
      throw bad_input(file.path() + ": scale_attn_weights = false is not supported");
    file.require_usual("scale_attn_by_inverse_layer_idx");

    gpt2_config c{};
    c.hidden          = file.size("n_embd");
    c.intermediate    = file.size("n_inner", 4 * c.hidden);
    c.layers          = file.size("n_layer");
    c.heads           = file.size("n_head");
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("n_positions", 1024);
    c.norm_epsilon    = file.positive("layer_norm_epsilon", 1e-5f);
    c.function        = read_activation(file, "activation_function", "gelu_new");
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", true);
    if (c.hidden % c.heads != 0) throw bad_input(file.path() + ": n_head does not divide n_embd");
    return c;
  }
};

/// Weights of one model; const use from several threads is safe.
class gpt2 {
 public:
  gpt2(const config& description, const checkpoint& file, backend where)
      : where_(where), config_(gpt2_config::read(description)) {
    const gpt2_config& c = config_;
    // OpenAI's own files have no prefix; those that transformers writes have one.
    const std::string prefix = file.contains("wte.weight") ? "" : "transformer.";
    embeddings_              = file.map(prefix + "wte.weight", c.vocabulary, c.hidden);
    positions_               = file.load(prefix + "wpe.weight", c.positions, c.hidden);
    norm_                    = load_norm(file, prefix + "ln_f", c.hidden);
    output_.weight           = c.tied_embeddings ? embeddings_ : file.map("lm_head.weight", c.vocabulary, c.hidden);
    for (index_t l = 0; l < c.layers; ++l) layers_.push_back(load_layer(file, prefix + "h." + std::to_string(l) + "."));
  }

  index_t layers() const { return config_.layers; }
  index_t positions() const { return config_.positions; }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As decoder::forward.
  matrix forward(std::span<const index_t> tokens, const attention_function& attend, index_t first) const {
    const gpt2_config& c = config_;
    matrix             x = embed(tokens, embeddings_, c.positions, first), normalized;
    x += positions_.middleRows(first, x.rows());
    for (index_t l = 0; l < c.layers; ++l)
      layers_[static_cast<std::size_t>(l)](l, c.heads, c.norm_epsilon, norm_place::before, x, attend, where_);
    norm_(x, c.norm_epsilon, normalized, where_);
    return normalized;
  }

 private:
  /// GPT-2 stores its weights as [in, out].
  static affine load_transposed(const checkpoint& file, const std::string& name, index_t out, index_t in) {
    return {file.map(name + ".weight", in, out).transpose(), file.load(name + ".bias", 1, out)};
  }

  plain_layer load_layer(const checkpoint& file, const std::string& prefix) const {
    const index_t hidden = config_.hidden, wide = config_.intermediate;
    const affine  fused = load_transposed(file, prefix + "attn.c_attn", 3 * hidden, hidden);
    const auto    third = [&](index_t i) {
      return affine{fused.weight.middle_rows(i * hidden, hidden), fused.bias.middleCols(i * hidden, hidden)};
    };
    return {.query          = third(0),
            .key            = third(1),
            .value          = third(2),
            .output         = load_transposed(file, prefix + "attn.c_proj", hidden, hidden),
            .attention_norm = load_norm(file, prefix + "ln_1", hidden),
            .mlp            = {.raise    = load_transposed(file, prefix + "mlp.c_fc", wide, hidden),
                               .lower    = load_transposed(file, prefix + "mlp.c_proj", hidden, wide),
                               .function = config_.function},
            .mlp_norm       = load_norm(file, prefix + "ln_2", hidden)};
  }

  backend                  where_;
  gpt2_config              config_;
  stored_matrix            embeddings_;
  matrix                   positions_;
  layer_norm               norm_;
  affine                   output_;
  std::vector<plain_layer> layers_;
};

}  // namespace engine
