#include "engine/decoder.hpp"

#include <utility>
#include <variant>

#include "engine/checkpoint.hpp"
#include "engine/config.hpp"
#include "engine/error.hpp"
#include "engine/gpt2.hpp"
#include "engine/gptj.hpp"
#include "engine/llama.hpp"
#include "engine/opt.hpp"

namespace engine {

struct decoder::any {
  std::variant<llama, gpt2, gptj, opt> model;
};

decoder::decoder(const std::string& folder, backend where) {
  const config description(folder + "/config.json");
  const auto   type = description.get<std::string>("model_type");
  const auto   read = [&]<class Model>(std::in_place_type_t<Model> chosen) {
    const checkpoint file(folder);
    model_  = std::make_shared<const any>(any{decltype(any::model)(chosen, description, file, where)});
    unused_ = file.unused();
  };
  if (type == "llama" || type == "qwen2" || type == "mistral" || type == "gemma2")
    read(std::in_place_type<llama>);
  else if (type == "gpt2")
    read(std::in_place_type<gpt2>);
  else if (type == "gptj")
    read(std::in_place_type<gptj>);
  else if (type == "opt")
    read(std::in_place_type<opt>);
  else
    throw bad_input(description.path() + ": model_type is " + type +
                    "; there are llama, qwen2, mistral, gemma2, gpt2, gptj and opt");
}

index_t decoder::layers() const {
  return std::visit([](const auto& model) { return model.layers(); }, model_->model);
}

index_t decoder::positions() const {
  return std::visit([](const auto& model) { return model.positions(); }, model_->model);
}

const affine& decoder::output() const {
  return std::visit([](const auto& model) -> const affine& { return model.output(); }, model_->model);
}

matrix decoder::run(std::span<const index_t> tokens, const attention_function& attend, index_t first) const {
  return std::visit([&](const auto& model) { return model.forward(tokens, attend, first); }, model_->model);
}

}  // namespace engine
