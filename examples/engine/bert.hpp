#pragma once
// BERT: a bidirectional encoder with learned positions, biases, erf's GELU, and LayerNorm after each half of a layer.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/attention_input.hpp"
#include "engine/matrix.hpp"

namespace engine {

/// Copies share the weights; const use from several threads is safe.
class bert {
 public:
  /// Reads config.json and the weights of a folder.
  explicit bert(const std::string& folder, backend where = {});

  index_t layers() const;
  index_t positions() const;

  /// Names of the files' tensors that the model does not use.
  const std::vector<std::string>& unused() const;

  /// Runs tokens at positions 0 .. T-1 through all layers and returns the final hidden states [T, hidden]. In each
  /// layer `attend(attention_input, out)` fills out [T, hidden]; the residual stream is normalised as it is.
  template <class Attend>
  matrix forward(std::span<const index_t> tokens, Attend&& attend) const {
    return run(tokens, std::ref(attend));
  }

 private:
  class model;

  matrix run(std::span<const index_t> tokens, const attention_function& attend) const;

  std::shared_ptr<const model> model_;
};

}  // namespace engine
