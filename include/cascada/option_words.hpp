#pragma once
// Options as numbers, for states that belong to them.

#include <bit>
#include <cstdint>
#include <cstring>

#include "cascada/attention_options.hpp"
#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// The same numbers for the same options: a threshold that the mode does not look at may be NaN, and is that NaN.
struct option_words {
  std::uint32_t word[18];

  CASCADA_INLINE friend bool operator==(const option_words& a, const option_words& b) noexcept {
    return std::memcmp(a.word, b.word, sizeof a.word) == 0;
  }
};

CASCADA_INLINE option_words words_of(const attention_options& options) noexcept {
  // An option more does not compile.
  const auto& [keys, queries, causal, weighted, window, chunk, sink_tokens, leaves, leaf_threshold, leaf, moments,
               summaries, open, open_above, tile, scale, softcap, sliding_window, budget, candidates, lookahead] =
      options;
  const float by_dim = scale.value_or(0), uncapped = softcap.value_or(0);
  return {{static_cast<std::uint32_t>(keys), static_cast<std::uint32_t>(queries), causal, weighted,
           static_cast<std::uint32_t>(window), static_cast<std::uint32_t>(chunk),
           static_cast<std::uint32_t>(sink_tokens), static_cast<std::uint32_t>(leaves),
           std::bit_cast<std::uint32_t>(leaf_threshold), static_cast<std::uint32_t>(leaf),
           static_cast<std::uint32_t>(moments.value_or(0)), static_cast<std::uint32_t>(summaries),
           static_cast<std::uint32_t>(open), std::bit_cast<std::uint32_t>(open_above), static_cast<std::uint32_t>(tile),
           std::bit_cast<std::uint32_t>(by_dim), std::bit_cast<std::uint32_t>(uncapped),
           static_cast<std::uint32_t>(sliding_window.value_or(0))}};
}

}  // namespace cascada::inline CASCADA_ABI::detail
