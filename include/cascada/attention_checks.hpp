#pragma once
// Whether the arguments of a call of attention fit each other.

#include <concepts>
#include <cstddef>
#include <span>

#include "cascada/attention_call.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/row_checks.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::detail {

// Functions, not constants: objects compiled for different instructions share no symbol.
[[nodiscard]] CASCADA_INLINE constexpr heads_sentences sentences_of_q() noexcept {
  return CASCADA_HEADS_SENTENCES("q");
}
[[nodiscard]] CASCADA_INLINE constexpr heads_sentences sentences_of_out() noexcept {
  return CASCADA_HEADS_SENTENCES("out");
}
[[nodiscard]] CASCADA_INLINE constexpr sums_sentences sentences_of_log_sum_exp() noexcept {
  return CASCADA_SUMS_SENTENCES("log_sum_exp", "q");
}

/// Where the sequences of a call lie in q and out, and where in kv: n + 1 offsets each.
struct sequence_spans {
  std::span<const index_t> queries, keys;

  CASCADA_INLINE std::size_t count() const noexcept { return queries.size() - 1; }
  CASCADA_INLINE index_t     queries_of(std::size_t s) const noexcept { return queries[s + 1] - queries[s]; }
  CASCADA_INLINE index_t     tokens(std::size_t s) const noexcept { return keys[s + 1] - keys[s]; }
};

/// One sequence, which has all tokens of a call.
struct only_sequence {
  index_t queries[2], keys[2];
};

/// Where the offsets of a call say that its sequences lie; where they say nothing, there is one. O(1).
template <class Call>
[[nodiscard]] CASCADA_INLINE sequence_spans spans_of(const Call& call, const only_sequence& all) noexcept {
  const std::span<const index_t> queries = call.query_offsets.empty() ? all.queries : call.query_offsets;
  return {queries, !call.key_offsets.empty() ? call.key_offsets : call.query_offsets.empty() ? all.keys : queries};
}

/// Whether they may say nothing of the keys. O(1).
template <class Call>
[[nodiscard]] CASCADA_INLINE status check_key_offsets(const Call& call, const only_sequence& all) noexcept {
  if (!call.query_offsets.empty() && call.key_offsets.empty() && all.keys[1] != all.queries[1])
    return {status::invalid_shape, "kv.tokens() differs from q.tokens, and key_offsets is empty"};
  return status::ok;
}

/// Offsets that cut the queries and the keys into as many sequences; keys may be left over. O(sequences).
template <backend B>
[[nodiscard]] status check_offsets(const sequence_spans& spans, index_t queries, index_t keys, bool causal) noexcept {
  if (!spans.queries.data()) return {status::invalid_shape, "query_offsets is null"};
  if (!spans.keys.data()) return {status::invalid_shape, "key_offsets is null"};
  if (spans.queries.front() != 0) return {status::invalid_shape, "query_offsets does not begin at 0"};
  if (spans.keys.front() != 0) return {status::invalid_shape, "key_offsets does not begin at 0"};
  if (spans.queries.back() != queries) return {status::invalid_shape, "query_offsets does not end at q.tokens"};
  if (spans.keys.size() != spans.queries.size())
    return {status::invalid_shape, "key_offsets and query_offsets differ in length"};
  for (std::size_t s = 0; s < spans.count(); ++s) {
    if (spans.queries_of(s) < 0) return {status::invalid_shape, "query_offsets descends"};
    if (spans.tokens(s) < 0) return {status::invalid_shape, "key_offsets descends"};
    if (causal && spans.queries_of(s) > spans.tokens(s))
      return {status::invalid_shape, "a sequence has more queries than keys, which options.causal does not allow"};
  }
  if (spans.keys.back() > keys) return {status::invalid_shape, "key_offsets ends beyond kv.tokens()"};
  return status::ok;
}

/// Keys and values that can be read.
template <backend B, kv_view KV>
[[nodiscard]] status check_kv(const KV& kv) noexcept {
  if (const status answer = kv.check(); answer != status::ok) return answer;
  if (kv.kv_heads() < 1) return {status::invalid_shape, "kv.kv_heads() is less than 1"};
  return status::ok;
}

/// Shapes of q, kv and out that fit each other. No queries are fine, whatever their columns and data.
template <backend B, row_scalar Scalar, kv_view KV, row_scalar Out>
[[nodiscard]] status check_shapes(const heads_view<const Scalar>& q, const KV& kv,
                                  const heads_view<Out>& out) noexcept {
  if (const status answer = check_heads(q, sentences_of_q()); answer != status::ok) return answer;
  if (const status answer = check_heads(out, sentences_of_out()); answer != status::ok) return answer;
  if (const status answer = check_kv<B>(kv); answer != status::ok) return answer;
  if (q.heads % kv.kv_heads() != 0) return {status::invalid_shape, "q.heads is no multiple of kv.kv_heads()"};
  if (out.tokens != q.tokens) return {status::invalid_shape, "out.tokens differs from q.tokens"};
  if (out.heads != q.heads) return {status::invalid_shape, "out.heads differs from q.heads"};
  if (q.tokens > 0 && kv.key_dim() != q.dim) return {status::invalid_shape, "kv.key_dim() differs from q.dim"};
  if (q.tokens > 0 && out.dim != kv.value_dim()) return {status::invalid_shape, "out.dim differs from kv.value_dim()"};
  return status::ok;
}

/// What a call, or an extension, of q [tokens, heads] asks for and brings along. O(1).
template <class Call>
[[nodiscard]] CASCADA_INLINE constexpr status check_wishes(const Call& call, const attention_options& options,
                                                           index_t tokens, index_t heads) noexcept {
  const auto count = static_cast<std::size_t>(heads);
  if (!call.sink_logits.empty() && call.sink_logits.size() != count)
    return {status::invalid_shape, "sink_logits has not one entry for each of q.heads"};
  if (!call.sink_logits.empty() && !call.sink_logits.data()) return {status::invalid_shape, "sink_logits is null"};
  if (!call.slopes.empty() && call.slopes.size() != count)
    return {status::invalid_shape, "slopes has not one entry for each of q.heads"};
  if (!call.slopes.empty() && !call.slopes.data()) return {status::invalid_shape, "slopes is null"};
  if (!call.slopes.empty() && kinds_of(options.keys).representatives)
    return {status::unsupported, "slopes is not empty with options.keys == representatives: clusters have no position"};
  if (!call.slopes.empty() && has_leaves(options))
    return {
        status::unsupported,
        "slopes is not empty with options.keys == near_and_far: leaves have no position unless options.open == all"};
  if (is_nothing(call.log_sum_exp)) return status::ok;
  return check_sums(call.log_sum_exp, tokens, heads, sentences_of_log_sum_exp());
}

/// Queries that begin where a call that knows nothing of earlier ones can begin.
template <backend B>
[[nodiscard]] status check_beginnings(const attention_options& options, const sequence_spans& spans) noexcept {
  for (std::size_t s = 0; s < spans.count(); ++s) {
    const index_t first = spans.tokens(s) - spans.queries_of(s);
    if (first == 0 || spans.queries_of(s) == 0) continue;
    if (kinds_of(options.keys).representatives)
      return {status::unsupported, "options.keys == representatives needs as many queries as keys"};
    if (options.queries == query_set::grouped && first % options.chunk != 0)
      return {
          status::unsupported,
          "queries begin inside a chunk: with options.queries == grouped, tokens there use queries of earlier ones"};
    if (opens_by_mass(options) && first % options.tile != 0)
      return {status::unsupported, "queries begin inside a tile, whose earlier queries open leaves: use a state"};
  }
  return status::ok;
}

/// Modes in which a sequence can grow.
[[nodiscard]] CASCADA_INLINE constexpr status check_growing(const attention_options& options) noexcept {
  if (kinds_of(options.keys).representatives)
    return {status::unsupported, "options.keys == representatives cannot grow: it needs all queries at once"};
  if (options.queries == query_set::grouped)
    return {status::unsupported,
            "options.queries == grouped cannot grow: tokens of a chunk use queries of earlier calls"};
  if (!options.causal) return {status::unsupported, "options.causal == false cannot grow: old rows would change"};
  return status::ok;
}

/// What is said where the options ask for selections, and there are none.
[[nodiscard]] CASCADA_INLINE constexpr status no_selections() noexcept {
  return illegal("selections is empty: options.keys == representatives and leaves need them");
}

/// The same of a view that is no longer what its owner keeps.
[[nodiscard]] CASCADA_INLINE constexpr status stale_selection() noexcept {
  return illegal("selections has a view of a set that its owner has replaced: call kept() again");
}

/// A selection that is still what its owner keeps, has no `misfit` that the caller sees, and, in the host's memory, is
/// legal.
template <backend B, class Selection>
[[nodiscard]] status check_selection(const Selection& selection, const char* misfit) noexcept {
  if (selection.stamp.stale()) return stale_selection();
  if (misfit) return illegal(misfit);
  if constexpr (std::same_as<Selection, representatives>) return check(selection, selection.tokens());
  return status::ok;
}

/// Whether selections are one for each of so many sequences, or one for each of their KV heads.
[[nodiscard]] CASCADA_INLINE constexpr bool one_or_each(std::size_t count, index_t kv_heads,
                                                        std::size_t sequences = 1) noexcept {
  return count == sequences || count == sequences * static_cast<std::size_t>(kv_heads);
}

/// Whether a state has as many selections as `before`, if that is not 0.
[[nodiscard]] CASCADA_INLINE constexpr bool as_many_as(std::size_t before, std::size_t count) noexcept {
  return before == 0 || count == before;
}

/// One selection per sequence, or per (sequence, KV head), as long as that; those in the host's memory are legal.
template <backend B, class Selection>
[[nodiscard]] status check_selections(std::span<const Selection> selections, const sequence_spans& spans,
                                      index_t kv_heads) noexcept {
  const std::size_t sequences = spans.count(), count = selections.size();
  if (count == 0 && sequences > 0) return no_selections();
  if (!one_or_each(count, kv_heads, sequences))
    return illegal("selections has neither one for each sequence nor one for each of its KV heads");
  for (std::size_t i = 0; i < count; ++i) {
    const bool   fits = selections[i].tokens() == spans.tokens(i / (count / sequences));
    const status answer =
        check_selection<B>(selections[i], fits ? nullptr : "selections has one that is not as long as its sequence");
    if (answer != status::ok) return answer;
  }
  return status::ok;
}

/// The selections that the options ask for; of those that they do not ask for, none are left.
template <backend B, class Selection>
[[nodiscard]] status take_selections(const attention_options& options, std::span<const Selection>& selections,
                                     const sequence_spans& spans, index_t kv_heads) noexcept {
  if (needs_selections(options)) return check_selections<B>(selections, spans, kv_heads);
  selections = {};
  return status::ok;
}

/// What any backend asks of a call, in this order. `spans` become those of the call, or of `all` where it has none.
template <backend B, row_scalar Scalar, kv_view KV, class Selection, row_scalar Out>
[[nodiscard]] status check_call(const attention_options& options, const heads_view<const Scalar>& q, const KV& kv,
                                std::span<const Selection>& selections, const heads_view<Out>& out,
                                const attention_call& call, const only_sequence& all, sequence_spans& spans) noexcept {
  if (const status answer = check(options); answer != status::ok) return answer;
  if (const status answer = check_shapes<B>(q, kv, out); answer != status::ok) return answer;
  if (const status answer = check_wishes(call, options, q.tokens, q.heads); answer != status::ok) return answer;
  if (const status answer = check_key_offsets(call, all); answer != status::ok) return answer;
  spans = spans_of(call, all);
  if (const status answer = check_offsets<B>(spans, q.tokens, kv.tokens(), options.causal); answer != status::ok)
    return answer;
  if (const status answer = check_beginnings<B>(options, spans); answer != status::ok) return answer;
  return take_selections<B>(options, selections, spans, kv.kv_heads());
}

/// A call that was broken off in the middle leaves a state of which nothing is known.
[[nodiscard]] CASCADA_INLINE constexpr status broken_off() noexcept {
  return {status::unsupported, "state is that of a call that was broken off; clear it"};
}

/// What a state that has begun asks of a call that goes on with it: options as they were, and the same shapes.
[[nodiscard]] CASCADA_INLINE constexpr status check_going_on(bool same_options, bool same_kv,
                                                             bool same_heads) noexcept {
  if (!same_options) return {status::unsupported, "state belongs to attention with other options"};
  if (!same_kv) return {status::invalid_shape, "state belongs to keys and values of another shape"};
  if (!same_heads) return {status::invalid_shape, "state belongs to another number of query heads"};
  return status::ok;
}

/// The keys of a call of `count` queries, which a state of `tokens` tokens has `keys` in all for.
[[nodiscard]] CASCADA_INLINE constexpr status check_room_of_keys(index_t keys, index_t tokens, index_t count) noexcept {
  if (keys - tokens >= count) return status::ok;
  return {status::invalid_shape, "kv.tokens() is less than the state's tokens and those of q"};
}

/// How many selections an extension has: one, or one for each KV head; as many as `before` it, if that is not 0.
[[nodiscard]] CASCADA_INLINE constexpr status check_selections_of_heads(std::size_t count, index_t kv_heads,
                                                                        std::size_t before) noexcept {
  if (count == 0) return no_selections();
  if (!one_or_each(count, kv_heads)) return illegal("selections has neither one nor one for each KV head");
  if (!as_many_as(before, count)) return illegal("selections has another number than before");
  return status::ok;
}

/// The selections of an extension, of the tokens before the last chunk's edge, or more.
template <backend B, class Selection>
[[nodiscard]] status check_selections_up_to(std::span<const Selection> selections, index_t edge) noexcept {
  for (std::size_t s = 0; s < selections.size(); ++s) {  // at -O0, objects share iterators
    const bool   fits   = selections[s].tokens() >= edge;
    const char*  misfit = fits ? nullptr : "selections has one that ends before the last chunk's edge";
    const status answer = check_selection<B>(selections[s], misfit);
    if (answer != status::ok) return answer;
  }
  return status::ok;
}

/// Whether a state cut before token `tokens` goes on with what earlier tokens of its tile opened, unless a tile begins
/// there: by mass, where there is a far field.
[[nodiscard]] CASCADA_INLINE constexpr bool needs_opened(const attention_options& options, index_t tokens) noexcept {
  return opens_by_mass(options) && edge_of(options, tokens) > options.sink_tokens;
}

/// What is left of a state of `all` tokens.
[[nodiscard]] CASCADA_INLINE constexpr status check_truncated_state(index_t tokens, index_t all) noexcept {
  if (tokens < 0) return {status::invalid_shape, "tokens is negative"};
  if (tokens > all) return {status::invalid_shape, "tokens is more than the state has"};
  return status::ok;
}

/// The same of an extension, but for what the state knows.
template <backend B, row_scalar Scalar, kv_view KV, row_scalar Out>
[[nodiscard]] status check_growing_call(const attention_options& options, const heads_view<const Scalar>& q,
                                        const KV& kv, const heads_view<Out>& out,
                                        const attention_extension& call) noexcept {
  if (const status answer = check(options); answer != status::ok) return answer;
  if (const status answer = check_growing(options); answer != status::ok) return answer;
  if (const status answer = check_shapes<B>(q, kv, out); answer != status::ok) return answer;
  return check_wishes(call, options, q.tokens, q.heads);
}

}  // namespace cascada::inline CASCADA_ABI::detail
