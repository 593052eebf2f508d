#pragma once
// GPT-J: attention and MLP side by side on one LayerNorm, interleaved rotary positions on the first columns of a head.

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
#include "engine/unsupported.hpp"

namespace engine {

struct gptj_config {
  static constexpr float rope_base = 10000;

  index_t    hidden, intermediate, layers, heads, rotary_dim, vocabulary, positions;
  float      norm_epsilon;
  activation function;
  bool       tied_embeddings;

  static gptj_config read(const config& file) {
    require_usual_mathematics(file), require_usual_positions(file);
    if (!file.get<bool>("rotary", true)) throw bad_input(file.path() + ": rotary = false is not supported");

    gptj_config c{};
    c.hidden          = file.size("n_embd");
    c.intermediate    = file.size("n_inner", 4 * c.hidden);
    c.layers          = file.size("n_layer");
    c.heads           = file.size("n_head");
    c.vocabulary      = file.size("vocab_size");
    c.positions       = file.size("n_positions", 2048);
    c.norm_epsilon    = file.positive("layer_norm_epsilon", 1e-5f);
    c.function        = read_activation(file, "activation_function", "gelu_new");
    c.tied_embeddings = file.get<bool>("tie_word_embeddings", false);
    if (c.hidden % c.heads != 0) throw bad_input(file.path() + ": n_head does not divide n_embd");
    c.rotary_dim = file.size("rotary_dim", c.hidden / c.heads);
    if (c.rotary_dim % 2 != 0 || c.rotary_dim > c.hidden / c.heads)
      throw bad_input(file.path() + ": rotary_dim must be even and at most the width of a head");
    return c;
  }
};

/// Weights of one model; const use from several threads is safe.
class gptj {
 public:
  gptj(const config& description, const checkpoint& file, backend where)
      : where_(where), config_(gptj_config::read(description)) {
    const gptj_config& c = config_;
    embeddings_          = file.map("transformer.wte.weight", c.vocabulary, c.hidden);
    norm_                = load_norm(file, "transformer.ln_f", c.hidden);
    output_.weight       = c.tied_embeddings ? embeddings_ : file.map("lm_head.weight", c.vocabulary, c.hidden);
    output_.bias         = file.load("lm_head.bias", 1, c.vocabulary);
    for (index_t l = 0; l < c.layers; ++l)
      layers_.push_back(load_layer(file, "transformer.h." + std::to_string(l) + "."));
  }

  index_t layers() const { return config_.layers; }
  index_t positions() const { return config_.positions; }

  /// Turns final hidden states into logits: [vocabulary, hidden].
  const affine& output() const { return output_; }

  /// As decoder::forward.
  matrix forward(std::span<const index_t> tokens, const attention_function& attend, index_t first) const {
    const gptj_config& c        = config_;
    const index_t      head_dim = c.hidden / c.heads;
    matrix             x        = embed(tokens, embeddings_, c.positions, first), normalized, q, k, v, update;
    matrix             attended(x.rows(), c.hidden);
    const rotary       positions(first, rows_of(x), rotary_frequencies(c.rotary_dim, gptj_config::rope_base));
    for (index_t l = 0; l < c.layers; ++l) {
      const layer& w = layers_[static_cast<std::size_t>(l)];
      w.norm(x, c.norm_epsilon, normalized, where_);
      linear(normalized, w.query, q, where_);
      linear(normalized, w.key, k, where_);
      linear(normalized, w.value, v, where_);
      positions.apply_interleaved(q, head_dim, where_);
      positions.apply_interleaved(k, head_dim, where_);
      attend(attention_input{l, c.heads, c.heads, x, normalized, q, k, v}, attended);
      linear(attended, w.output, update, where_);
      x += update;
      w.mlp(normalized, update, where_);
      x += update;
    }
    norm_(x, c.norm_epsilon, normalized, where_);
    return normalized;
  }

 private:
  struct layer {
    layer_norm    norm;
    stored_matrix query, key, value, output;
    plain_mlp     mlp;
  };

  layer load_layer(const checkpoint& file, const std::string& prefix) const {
    const index_t hidden = config_.hidden, wide = config_.intermediate;
    const auto square = [&](const char* name) { return file.map(prefix + "attn." + name + ".weight", hidden, hidden); };
    return {.norm   = load_norm(file, prefix + "ln_1", hidden),
            .query  = square("q_proj"),
            .key    = square("k_proj"),
            .value  = square("v_proj"),
            .output = square("out_proj"),
            .mlp    = {.raise    = load_affine(file, prefix + "mlp.fc_in", wide, hidden),
                       .lower    = load_affine(file, prefix + "mlp.fc_out", hidden, wide),
                       .function = config_.function}};
  }

  backend            where_;
  gptj_config        config_;
  stored_matrix      embeddings_;
  layer_norm         norm_;
  affine             output_;
  std::vector<layer> layers_;
};

}  // namespace engine
