#pragma once
// What attention computes: independent switches, and which combinations make sense.

#include <bit>
#include <cstdint>

#include "cascada/config.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI {

/// Whom a query attends to.
enum class key_set {
  all,              // every token: dense attention
  representatives,  // the members of R, or their clusters' means
  near,             // the tokens of the near field only
  near_and_far,     // the near field token by token, all older tokens through summaries of their clusters
};

/// Who asks.
enum class query_set {
  all,              // every token
  representatives,  // the members of R; every token copies its representative's output
  grouped,          // far field: a chunk's tokens that share a representative ask once. Near field: every token
};

/// The modes of the method are points in this space:
///
///   dense                  {.keys = all}
///   literal r x r (paper)  {.keys = representatives, .queries = representatives}
///   weighted r x r         {.keys = representatives, .queries = representatives, .weighted = true}
///   bidirectional T x r    {.keys = representatives, .causal = false, .weighted = true}
///   window only            {.keys = near}
///   near + far             {.keys = near_and_far}
///   ... grouped queries    {.keys = near_and_far, .queries = grouped}
///   ... with refinement    {.keys = near_and_far, .budget = 128}
struct attention_options {
  key_set   keys       = key_set::near_and_far;
  query_set queries    = query_set::all;
  bool      causal     = true;
  bool      weighted   = false;  // keys == representatives: logits get + log of the cluster's size (ToMe)
  bool      lookahead  = false;  // grouped: ask with the group's mean query, which sees later tokens of its chunk
  index_t   window     = 128;    // W >= 0. Token t attends exactly to [max(0, C floor(t / C) - W), t]
  index_t   chunk      = 128;    // C >= 1. Chunks lie at absolute positions
  index_t   budget     = 0;      // refinement: far tokens that a query attends exactly; 0 is none
  index_t   candidates = 4;      // refinement: budget * candidates far tokens are scored, the best are attended
  float     scale      = 0;      // of the logits; 0 means 1 / sqrt(key_dim)
};

/// `unsupported` for switches that contradict each other, `invalid_shape` for sizes out of range.
[[nodiscard]] CASCADA_INLINE constexpr status check(const attention_options& options) noexcept {
  // By bits: -ffast-math deletes a comparison with infinity.
  const bool finite_scale = (std::bit_cast<std::uint32_t>(options.scale) & 0x7f80'0000u) != 0x7f80'0000u;
  if (options.window < 0 || options.chunk < 1 || options.budget < 0 || options.candidates < 1 || !finite_scale ||
      options.scale < 0)
    return status::invalid_shape;

  const bool far_field  = options.keys == key_set::near_and_far;
  const bool compressed = options.keys == key_set::representatives;
  const bool chunked    = far_field || options.keys == key_set::near;
  if (chunked && !options.causal) return status::unsupported;
  if (options.queries == query_set::grouped && !far_field) return status::unsupported;
  if (options.queries == query_set::representatives && !compressed) return status::unsupported;
  // Every token against the members of R: only their clusters' means, which all tokens make, stand for all tokens.
  if (compressed && options.queries == query_set::all && (options.causal || !options.weighted))
    return status::unsupported;
  if (options.weighted && !compressed) return status::unsupported;
  if (options.lookahead && options.queries != query_set::grouped) return status::unsupported;
  if (options.budget > 0 && (!far_field || options.queries != query_set::all)) return status::unsupported;
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI
