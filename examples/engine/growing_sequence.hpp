#pragma once
// A text that a decoder reads in pieces, goes on with token by token, and goes back in.

#include <algorithm>
#include <span>
#include <vector>

#include "engine/attention_mode.hpp"
#include "engine/decoder.hpp"
#include "engine/growing_attention.hpp"

namespace engine {

class growing_sequence {
 public:
  /// Prompts go through the model in pieces of this many tokens.
  static constexpr index_t piece = 512;

  growing_sequence(const decoder& model, const attention_mode& mode, const backend& where)
      : model_(model), where_(where), attend_(mode, where) {}

  /// Makes `tokens` the sequence; what it has in common with the one so far is not computed again. Calls shown(i)
  /// before piece i. Returns the likeliest next token.
  template <class Shown>
  index_t read(std::span<const index_t> tokens, Shown&& shown) {
    const auto same   = std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin(), tokens.end()).second;
    const auto common = std::min(same - tokens.begin(), static_cast<std::ptrdiff_t>(tokens.size()) - 1);
    tokens_.resize(static_cast<std::size_t>(attend_.truncate(static_cast<index_t>(common))));
    for (int i = 0; tokens_.size() < tokens.size(); ++i) {
      shown(i);
      const auto rest = tokens.subspan(tokens_.size());
      feed(rest.first(std::min(rest.size(), std::size_t{piece})));
    }
    return likeliest();
  }

  /// The next token; returns the one that most likely follows.
  index_t next(index_t token) {
    feed({&token, 1});
    return likeliest();
  }

  const growing_costs& costs() const { return attend_.costs(); }

 private:
  void feed(std::span<const index_t> more) {
    last_ = model_.forward(more, attend_, attend_.tokens()).bottomRows(1);
    tokens_.insert(tokens_.end(), more.begin(), more.end());
  }

  index_t likeliest() {
    Eigen::Index best = 0;
    model_.output()(last_, logits_, where_);
    logits_.row(0).maxCoeff(&best);
    return static_cast<index_t>(best);
  }

  const decoder&       model_;
  backend              where_;
  growing_attention    attend_;
  std::vector<index_t> tokens_;
  matrix               last_, logits_;  // of the last token: its final hidden state, and what it says of the next
};

}  // namespace engine
