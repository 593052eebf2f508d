#include "engine/bert.hpp"

#include "engine/checkpoint.hpp"
#include "engine/config.hpp"
#include "engine/embedding.hpp"
#include "engine/plain_layer.hpp"
#include "engine/unsupported.hpp"

namespace engine {
namespace {

struct bert_config {
  index_t    hidden, intermediate, layers, heads, vocabulary, positions, segments;
  float      norm_epsilon;
  activation function;

  static bert_config read(const config& file) {
    const auto type = file.get<std::string>("model_type");
    if (type != "bert") throw bad_input(file.path() + ": model_type is " + type + ", not bert");
    require_usual_mathematics(file), require_usual_positions(file);
    if (file.get<std::string>("position_embedding_type", "absolute") != "absolute")
      throw bad_input(file.path() + ": position_embedding_type is not absolute");
    file.require_usual("is_decoder");

    bert_config c{};
    c.hidden       = file.size("hidden_size");
    c.intermediate = file.size("intermediate_size");
    c.layers       = file.size("num_hidden_layers");
    c.heads        = file.size("num_attention_heads");
    c.vocabulary   = file.size("vocab_size");
    c.positions    = file.size("max_position_embeddings", 512);
    c.segments     = file.size("type_vocab_size", 2);
    c.norm_epsilon = file.positive("layer_norm_eps", 1e-12f);
    c.function     = read_activation(file, "hidden_act", "gelu");
    if (c.hidden % c.heads != 0) throw bad_input(file.path() + ": num_attention_heads does not divide hidden_size");
    return c;
  }
};

}  // namespace

class bert::model {
 public:
  model(const std::string& folder, const backend& where)
      : where_(where), config_(bert_config::read(config(folder + "/config.json"))) {
    const bert_config& c = config_;
    const checkpoint   file(folder);
    // A bare encoder's files have no prefix; those of a model with a head on top have one.
    const std::string prefix     = file.contains("embeddings.word_embeddings.weight") ? "" : "bert.";
    const std::string embeddings = prefix + "embeddings.";
    embeddings_                  = file.map(embeddings + "word_embeddings.weight", c.vocabulary, c.hidden);
    positions_                   = file.load(embeddings + "position_embeddings.weight", c.positions, c.hidden);
    // All tokens belong to the first segment, so its row goes into the positions.
    positions_.rowwise() += file.load(embeddings + "token_type_embeddings.weight", c.segments, c.hidden).row(0);
    norm_ = load_bert_norm(file, embeddings + "LayerNorm");
    for (index_t l = 0; l < c.layers; ++l)
      layers_.push_back(load_layer(file, prefix + "encoder.layer." + std::to_string(l) + "."));
    unused_ = file.unused();
  }

  index_t                         layers() const { return config_.layers; }
  index_t                         positions() const { return config_.positions; }
  const std::vector<std::string>& unused() const { return unused_; }

  matrix forward(std::span<const index_t> tokens, const attention_function& attend) const {
    const bert_config& c   = config_;
    matrix             sum = embed(tokens, embeddings_, c.positions), x;
    sum += positions_.topRows(sum.rows());
    norm_(sum, c.norm_epsilon, x, where_);
    for (index_t l = 0; l < c.layers; ++l)
      layers_[static_cast<std::size_t>(l)](l, c.heads, c.norm_epsilon, norm_place::after, x, attend, where_);
    return x;
  }

 private:
  /// BERT's first files call weight and bias gamma and beta.
  layer_norm load_bert_norm(const checkpoint& file, const std::string& name) const {
    if (!file.contains(name + ".gamma")) return load_norm(file, name, config_.hidden);
    return {file.load(name + ".gamma", 1, config_.hidden), file.load(name + ".beta", 1, config_.hidden)};
  }

  plain_layer load_layer(const checkpoint& file, const std::string& prefix) const {
    const index_t hidden = config_.hidden, wide = config_.intermediate;
    return {.query          = load_affine(file, prefix + "attention.self.query", hidden, hidden),
            .key            = load_affine(file, prefix + "attention.self.key", hidden, hidden),
            .value          = load_affine(file, prefix + "attention.self.value", hidden, hidden),
            .output         = load_affine(file, prefix + "attention.output.dense", hidden, hidden),
            .attention_norm = load_bert_norm(file, prefix + "attention.output.LayerNorm"),
            .mlp            = {.raise    = load_affine(file, prefix + "intermediate.dense", wide, hidden),
                               .lower    = load_affine(file, prefix + "output.dense", hidden, wide),
                               .function = config_.function},
            .mlp_norm       = load_bert_norm(file, prefix + "output.LayerNorm")};
  }

  backend                  where_;
  bert_config              config_;
  stored_matrix            embeddings_;
  matrix                   positions_;
  layer_norm               norm_;
  std::vector<plain_layer> layers_;
  std::vector<std::string> unused_;
};

bert::bert(const std::string& folder, backend where) : model_(std::make_shared<const model>(folder, where)) {}

index_t bert::layers() const { return model_->layers(); }

index_t bert::positions() const { return model_->positions(); }

const std::vector<std::string>& bert::unused() const { return model_->unused(); }

matrix bert::run(std::span<const index_t> tokens, const attention_function& attend) const {
  return model_->forward(tokens, attend);
}

}  // namespace engine
