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
  static constexpr std::size_t piece = 512;

  growing_sequence(const decoder& model, const attention_mode& mode, const backend& where)
      : model_(model), where_(where), attend_(mode, where) {}

  /// The next tokens, at least one.
  void feed(std::span<const index_t> more) {
    last_ = model_.forward(more, attend_, attend_.tokens()).bottomRows(1);
    tokens_.insert(tokens_.end(), more.begin(), more.end());
  }

  /// The token that most likely comes next.
  index_t likeliest() {
    Eigen::Index best = 0;
    model_.output()(last_, logits_, where_);
    logits_.row(0).maxCoeff(&best);
    return static_cast<index_t>(best);
  }

  index_t next(index_t token) {
    feed({&token, 1});
    return likeliest();
  }

  /// Makes `tokens` the sequence. What it has in common with the one so far, but the last token, is not computed again.
  index_t read(std::span<const index_t> tokens) {
    const auto known  = std::span(tokens_).first(std::min(tokens_.size(), tokens.size() - 1));
    const auto common = std::mismatch(known.begin(), known.end(), tokens.begin()).first - known.begin();
    tokens_.resize(static_cast<std::size_t>(attend_.truncate(static_cast<index_t>(common))));
    while (tokens_.size() < tokens.size())
      feed(tokens.subspan(tokens_.size(), std::min(piece, tokens.size() - tokens_.size())));
    return likeliest();
  }

  const growing_costs& costs() const { return attend_.costs(); }

  /// [1, hidden]: the last token's final hidden state.
  const matrix& final() const { return last_; }

 private:
  const decoder&       model_;
  backend              where_;
  growing_attention    attend_;
  std::vector<index_t> tokens_;
  matrix               last_, logits_;  // of the last token: its final hidden state, and what it says of the next
};

}  // namespace engine
