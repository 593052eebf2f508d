#pragma once
// A decoder of any architecture that the engine knows, chosen by config.json's model_type.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/attention_input.hpp"
#include "engine/linear.hpp"
#include "engine/matrix.hpp"

namespace engine {

class decoder {
 public:
  /// Reads config.json and the weights of a folder.
  explicit decoder(const std::string& folder, backend where = {});

  index_t layers() const;
  /// How long a sequence may be.
  index_t positions() const;

  /// Names of the files' tensors that the model does not use.
  const std::vector<std::string>& unused() const { return unused_; }

  /// Turns final hidden states into logits.
  const affine& output() const;

  /// Runs tokens at positions first .. first + T - 1 through all layers and returns the final hidden states, normalised
  /// [T, hidden]. In each layer `attend(attention_input, out)` fills out [T, heads * head_dim]; it knows the tokens
  /// before `first`. Dynamic rotary positions depend on first + T: beyond the length of training, pieces differ from
  /// the whole, as everywhere.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend, index_t first = 0) const {
    return run(tokens, std::ref(attend), first);
  }

 private:
  struct any;  // one of the architectures

  matrix run(std::span<const index_t> tokens, const attention_function& attend, index_t first) const;

  std::vector<std::string>   unused_;
  std::shared_ptr<const any> model_;
};

}  // namespace engine
