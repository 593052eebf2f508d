#pragma once
// A decoder of any architecture that the engine knows, chosen by config.json's model_type.

#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/checkpoint.hpp"
#include "engine/config.hpp"
#include "engine/gpt2.hpp"
#include "engine/gptj.hpp"
#include "engine/llama.hpp"
#include "engine/opt.hpp"

namespace engine {

class decoder {
 public:
  /// Reads config.json and the weights of a folder.
  explicit decoder(const std::string& folder, backend where = {}) : model_(open(folder, where, unused_)) {}

  index_t layers() const {
    return std::visit([](const auto& model) { return model.layers(); }, model_);
  }
  /// How long a sequence may be.
  index_t positions() const {
    return std::visit([](const auto& model) { return model.positions(); }, model_);
  }

  /// Names of the files' tensors that the model does not use.
  const std::vector<std::string>& unused() const { return unused_; }

  /// Turns final hidden states into logits.
  const affine& output() const {
    return std::visit([](const auto& model) -> const affine& { return model.output(); }, model_);
  }

  /// Runs tokens at positions first .. first + T - 1 through all layers and returns the final hidden states, normalised
  /// [T, hidden]. In each layer `attend(attention_input, out)` fills out [T, heads * head_dim]; it knows the tokens
  /// before `first`. Dynamic rotary positions depend on first + T: beyond the length of training, pieces differ from
  /// the whole, as everywhere.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend, index_t first = 0) const {
    return std::visit([&](const auto& model) { return model.forward(tokens, attend, first); }, model_);
  }

 private:
  using any = std::variant<llama, gpt2, gptj, opt>;

  static any open(const std::string& folder, const backend& where, std::vector<std::string>& unused) {
    const config description(folder + "/config.json");
    const auto   type = description.get<std::string>("model_type");
    const auto   read = [&]<class Model>(std::in_place_type_t<Model> model) {
      const checkpoint file(folder);
      any              out(model, description, file, where);
      unused = file.unused();
      return out;
    };
    if (type == "llama" || type == "qwen2" || type == "mistral" || type == "gemma2")
      return read(std::in_place_type<llama>);
    if (type == "gpt2") return read(std::in_place_type<gpt2>);
    if (type == "gptj") return read(std::in_place_type<gptj>);
    if (type == "opt") return read(std::in_place_type<opt>);
    throw bad_input(description.path() + ": model_type is " + type +
                    "; there are llama, qwen2, mistral, gemma2, gpt2, gptj and opt");
  }

  std::vector<std::string> unused_;  // before model_, whose making fills it
  any                      model_;
};

}  // namespace engine
