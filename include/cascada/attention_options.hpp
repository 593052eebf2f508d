#pragma once
// What attention computes: independent switches, and which combinations make sense.

#include <cmath>
#include <limits>
#include <numbers>
#include <optional>

#include "cascada/config.hpp"
#include "cascada/finite.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI {

/// Whom a query attends to.
enum class key_set {
  all,              // every token: dense attention
  representatives,  // the members of R, or their clusters' means
  near,             // the tokens of the near field only
  near_and_far,     // the near field token by token, all older tokens through leaves
};

/// Who asks.
enum class query_set {
  all,              // every token
  representatives,  // the members of R; every token copies its representative's output
  grouped,          // far field: the first of a chunk's tokens that share a representative. Near field: every token
};

/// How the members of a cluster form chains. Each `leaf` successive members of a chain are a leaf.
enum class leaf_formation {
  by_order,  // one chain: the members in token order
  by_keys,   // a member joins the chain whose first key is nearest to its own, at cosine >= leaf_threshold
};

/// Which leaves give way to their tokens.
enum class opening {
  none,     // every leaf stays closed
  by_mass,  // leaves whose share of the softmax exceeds open_above
  all,      // every leaf: dense attention
};

/// What the mean keys and mean values of leaves are kept as. Fewer bytes are for decoding, which reads all of them for
/// each token: a prompt takes longer.
enum class summary_type {
  as_multiplied,  // float, or bfloat16 where rows of it are multiplied as such
  bfloat16,       // where rows are float, half the bytes that a decoding step reads of the far field; less exact
  bytes,          // integers from -63 to 63, a scale for each mean: half the bytes of bfloat16
};

namespace detail {

/// Stands where an option was. Naming it does not compile, with a sentence that says what to write instead.
struct removed_refinement {
  constexpr removed_refinement() = default;
  CASCADA_INLINE friend constexpr bool operator==(removed_refinement, removed_refinement) noexcept { return true; }
  template <class Value>
  constexpr removed_refinement(Value) noexcept {  // NOLINT: implicit, as the option's values were
    static_assert(
        sizeof(Value) == 0,
        "attention_options: budget and candidates are gone; .open = opening::by_mass with .open_above decides "
        "which far tokens are attended exactly");
  }
};
struct removed_lookahead {
  constexpr removed_lookahead() = default;
  CASCADA_INLINE friend constexpr bool operator==(removed_lookahead, removed_lookahead) noexcept { return true; }
  template <class Value>
  constexpr removed_lookahead(Value) noexcept {  // NOLINT
    static_assert(sizeof(Value) == 0, "attention_options: lookahead is gone; grouped queries are strictly causal");
  }
};

}  // namespace detail

/// The modes of the method are points in this space:
///
///   dense                  {.keys = all}
///   literal r x r (paper)  {.keys = representatives, .queries = representatives}
///   weighted r x r         {.keys = representatives, .queries = representatives, .weighted = true}
///   bidirectional T x r    {.keys = representatives, .causal = false, .weighted = true}
///   sliding window         {.keys = all, .sliding_window = 4096}
///   window                 {.keys = near}
///   near + far, opened     {.keys = near_and_far}
///   near + far, closed     {.keys = near_and_far, .open = none}
///   grouped queries        {.keys = near_and_far, .queries = grouped, .open = none}
///
/// Near field. Token t lies in chunk c = floor(t / chunk), whose edge is e = max(0, chunk c - window). The token
/// attends exactly to tokens [e, t] and to the sinks [0, min(sink_tokens, e)).
///
/// Far field. The other tokens before e form leaves, cluster by cluster. A leaf of n tokens stands for them with their
/// mean key and value, and with the logit
///
///   scale q . mean key + log n + min(4, correction)
///   correction = 1/2 sum over `moments` groups of dimensions of scale^2 |q_g|^2 var_g
///
/// var_g: the mean variance of the keys over the dimensions [floor(g d / moments), floor((g + 1) d / moments)). It is
/// the second-order term of the log of the mean of exp(scale q . k). A leaf of one token is exact, unless `summaries`
/// rounds it: mean keys and values, and those alone, to nearest, of finite means to finite ones. As bytes, a mean is
/// integers in units of a 63rd of its largest element, zero if that is below 2^-100. NaN in one element makes all of
/// it NaN, and so does Inf of a mean value; beside Inf in a mean key, finite elements are zero.
///
/// Opening by mass. L is a head's log-sum-exp over near keys and all leaves. A token asks for a leaf of n > 1 if its
/// logit, for some head of the KV group, exceeds L + log(open_above). Tokens come in tiles of `tile`, at absolute
/// positions. A leaf is open for a token if it or an earlier token of its tile asked for it; its tokens then take its
/// place in the softmax.
///
/// Softcap. Logits become softcap tanh(logit / softcap), after the scale and before everything that is added to them
/// (Gemma 2, arXiv:2408.00118). Of a leaf, the mean key's logit is capped, then come log n and the correction times the
/// square of the cap's derivative there, (1 - tanh^2)^2: to first order, the capped logits vary by so much less. It is
/// never negative, as a second-order term of the cap's own curvature could be far beyond what a leaf's tokens hold.
///
/// Sliding window. Token t attends to tokens (t - sliding_window, t] and no others, as Mistral and Gemma mean it. Not
/// key_set::near, whose window begins at the edge of a chunk and which keeps sinks. Keys and values that every window
/// has passed stay readable: kernels may still fetch them.
struct attention_options {
  key_set                keys           = key_set::near_and_far;
  query_set              queries        = query_set::all;
  bool                   causal         = true;
  bool                   weighted       = false;  // keys == representatives: logits get + log of the cluster's size
  index_t                window         = 128;    // W >= 0
  index_t                chunk          = 128;    // C >= 1
  index_t                sink_tokens    = 1;      // >= 0
  leaf_formation         leaves         = leaf_formation::by_keys;
  float                  leaf_threshold = 0.7f;  // in (0, 1]; leaves by keys
  index_t                leaf           = 16;    // >= 1: tokens of a leaf at most
  std::optional<index_t> moments        = 4;     // >= 1: groups of key dimensions; nullopt: no correction
  summary_type           summaries      = summary_type::as_multiplied;
  opening                open           = opening::by_mass;
  float                  open_above     = 0.01f;         // in (0, 1): share of the softmax; opening by mass
  index_t                tile           = 16;            // divides chunk; opening by mass
  std::optional<float>   scale          = std::nullopt;  // of the logits, > 0; nullopt: 1 / sqrt(key_dim)
  std::optional<float>   softcap        = std::nullopt;  // > 0; nullopt: none
  std::optional<index_t> sliding_window = std::nullopt;  // >= 1: keys == all and causal; nullopt: none

  [[no_unique_address]] detail::removed_refinement budget = {}, candidates = {};
  [[no_unique_address]] detail::removed_lookahead  lookahead = {};

  CASCADA_INLINE friend constexpr bool operator==(const attention_options&, const attention_options&) = default;
};

/// The edge of the chunk that begins at token `begin`: the first token that it attends to exactly, but for sinks.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t edge_of(index_t begin, index_t window) noexcept {
  return begin < window ? 0 : begin - window;
}

/// The first token that a sliding window of `window` tokens, the last of them `token`, still sees.
[[nodiscard]] CASCADA_HOST_DEVICE CASCADA_INLINE constexpr index_t first_in_window(index_t token,
                                                                                   index_t window) noexcept {
  return token < window ? 0 : token - window + 1;
}

/// The edge of the chunk of `token`.
[[nodiscard]] CASCADA_INLINE constexpr index_t edge_of(const attention_options& options, index_t token) noexcept {
  return edge_of(token - token % options.chunk, options.window);
}

namespace detail {

/// What queries meet. Each set of keys is described here; by name, only what chooses a kernel asks for it.
struct key_kinds {
  bool every_token     = false;  // one by one
  bool representatives = false;  // the members of R, or their clusters' means
  bool near_field      = false;  // tokens from a chunk's edge on
  bool far_field       = false;  // all older tokens
};

[[nodiscard]] CASCADA_INLINE constexpr key_kinds kinds_of(key_set keys) noexcept {
  switch (keys) {
    case key_set::all: return {.every_token = true};
    case key_set::representatives: return {.representatives = true};
    case key_set::near: return {.near_field = true};
    case key_set::near_and_far: return {.near_field = true, .far_field = true};
  }
  return {};
}

/// Whether older tokens are met one by one as well: every leaf opens.
[[nodiscard]] CASCADA_INLINE constexpr bool opens_everything(const attention_options& options) noexcept {
  return kinds_of(options.keys).far_field && options.open == opening::all;
}

/// Whether older tokens answer through leaves.
[[nodiscard]] CASCADA_INLINE constexpr bool has_leaves(const attention_options& options) noexcept {
  return kinds_of(options.keys).far_field && !opens_everything(options);
}

/// Whether keys are the means of whole clusters.
[[nodiscard]] CASCADA_INLINE constexpr bool has_cluster_means(const attention_options& options) noexcept {
  return kinds_of(options.keys).representatives && options.weighted && !options.causal;
}

[[nodiscard]] CASCADA_INLINE constexpr bool opens_by_mass(const attention_options& options) noexcept {
  return kinds_of(options.keys).far_field && options.open == opening::by_mass;
}

[[nodiscard]] CASCADA_INLINE constexpr bool forms_by_keys(const attention_options& options) noexcept {
  return has_leaves(options) && options.leaves == leaf_formation::by_keys;
}

}  // namespace detail

/// The most that the spread of its keys adds to a leaf's logit, in nats: the correction is the second term of a series,
/// which means little where it is large.
inline constexpr float largest_correction = 4;

namespace detail {

/// Kernels count in base 2.
[[nodiscard]] CASCADA_INLINE constexpr bool overflows_in_base_2(float x) noexcept {
  return static_cast<double>(x) * std::numbers::log2e > static_cast<double>(std::numeric_limits<float>::max());
}

/// The scale of logits as kernels take it, in base 2.
[[nodiscard]] CASCADA_INLINE float scale_in_base_2(const attention_options& options, index_t key_dim) noexcept {
  const double scale =
      options.scale ? static_cast<double>(*options.scale) : 1 / std::sqrt(static_cast<double>(key_dim));
  return static_cast<float>(scale * std::numbers::log2e);
}

/// The cap of logits as kernels take it, in base 2; 0: none.
[[nodiscard]] CASCADA_INLINE double cap_in_base_2(const attention_options& options) noexcept {
  return options.softcap ? static_cast<double>(*options.softcap) * std::numbers::log2e : 0.0;
}

/// Sizes, the scale and the cap, whatever the mode.
[[nodiscard]] CASCADA_INLINE constexpr status check_sizes(const attention_options& options) noexcept {
  if (options.window < 0) return {status::invalid_shape, "options.window is negative"};
  if (options.chunk < 1) return {status::invalid_shape, "options.chunk is less than 1"};
  if (options.sink_tokens < 0) return {status::invalid_shape, "options.sink_tokens is negative"};
  if (options.leaf < 1) return {status::invalid_shape, "options.leaf is less than 1"};
  if (options.tile < 1) return {status::invalid_shape, "options.tile is less than 1"};
  if (options.moments && *options.moments < 1) return {status::invalid_shape, "options.moments is less than 1"};
  if (options.sliding_window && *options.sliding_window < 1)
    return {status::invalid_shape, "options.sliding_window is less than 1"};
  constexpr float largest = std::numeric_limits<float>::max();
  if (options.scale && !positive_up_to(*options.scale, largest))
    return {status::invalid_shape, "options.scale is not positive and finite"};
  if (options.scale && overflows_in_base_2(*options.scale))
    return {status::too_large, "options.scale times log2(e) overflows"};
  if (options.softcap && !positive_up_to(*options.softcap, largest))
    return {status::invalid_shape, "options.softcap is not positive and finite"};
  if (options.softcap && overflows_in_base_2(*options.softcap))
    return {status::too_large, "options.softcap times log2(e) overflows"};
  return status::ok;
}

/// Switches that contradict each other.
[[nodiscard]] CASCADA_INLINE constexpr status check_switches(const attention_options& options) noexcept {
  const key_kinds kinds      = kinds_of(options.keys);
  const bool      compressed = kinds.representatives, grouped = options.queries == query_set::grouped;
  if (kinds.near_field && !options.causal)
    return {status::unsupported, "options.causal == false needs options.keys == all or representatives"};
  if (grouped && !kinds.far_field)
    return {status::unsupported, "options.queries == grouped needs options.keys == near_and_far"};
  if (grouped && options.open != opening::none)
    return {status::unsupported, "options.queries == grouped needs options.open == none"};
  if (options.queries == query_set::representatives && !compressed)
    return {status::unsupported, "options.queries == representatives needs options.keys == representatives"};
  // Every token against the members of R: only their clusters' means, which all tokens make, stand for all tokens.
  if (compressed && options.queries == query_set::all && options.causal)
    return {status::unsupported,
            "options.queries == all with options.keys == representatives needs options.causal == false"};
  if (compressed && options.queries == query_set::all && !options.weighted)
    return {status::unsupported, "options.queries == all with options.keys == representatives needs options.weighted"};
  if (options.weighted && !compressed)
    return {status::unsupported, "options.weighted needs options.keys == representatives"};
  if (options.sliding_window && !kinds.every_token)
    return {status::unsupported, "options.sliding_window needs options.keys == all"};
  if (options.sliding_window && !options.causal)
    return {status::unsupported, "options.sliding_window needs options.causal"};
  return status::ok;
}

/// What the far field alone reads.
[[nodiscard]] CASCADA_INLINE constexpr status check_far_field(const attention_options& options) noexcept {
  if (options.leaves == leaf_formation::by_keys && !positive_up_to(options.leaf_threshold, 1))
    return {status::invalid_threshold, "options.leaf_threshold does not lie in (0, 1]"};
  if (options.open != opening::by_mass) return status::ok;
  if (!positive_up_to(options.open_above, 1) || options.open_above == 1)
    return {status::invalid_threshold, "options.open_above does not lie in (0, 1)"};
  if (options.chunk % options.tile != 0) return {status::invalid_shape, "options.tile does not divide options.chunk"};
  return status::ok;
}

}  // namespace detail

/// Whether it matters who stands for whom: whether calls take selections.
[[nodiscard]] CASCADA_INLINE constexpr bool needs_selections(const attention_options& options) noexcept {
  return detail::kinds_of(options.keys).representatives || detail::has_leaves(options);
}

/// `unsupported` for switches that contradict each other, `invalid_threshold` for thresholds and `invalid_shape` for
/// sizes out of range, `too_large` for a scale or a cap that overflows in base 2. The first that is found, in a
/// sentence of its own.
[[nodiscard]] CASCADA_INLINE constexpr status check(const attention_options& options) noexcept {
  if (const status answer = detail::check_sizes(options); answer != status::ok) return answer;
  if (const status answer = detail::check_switches(options); answer != status::ok) return answer;
  return detail::kinds_of(options.keys).far_field ? detail::check_far_field(options) : status::ok;
}

}  // namespace cascada::inline CASCADA_ABI
