#pragma once
// One sequence that grows: leaves, the clusters they lie in, and what the last tiles opened.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cascada/attention.hpp"
#include "cascada/attention_checks.hpp"
#include "cascada/cpu/attention/batch.hpp"
#include "cascada/cpu/attention/clusters.hpp"
#include "cascada/cpu/attention/workspace.hpp"
#include "cascada/cpu/base/saved_state.hpp"
#include "cascada/option_words.hpp"

namespace cascada::inline CASCADA_ABI {

/// As attention.hpp says. It belongs to the options of its first call; with others, or other shapes, it is refused
/// (`unsupported`, `invalid_shape`). Calls up to the tokens reserved allocate nothing once one has brought selections
/// for a far field. If memory runs out, the state stays as it was.
template <row_scalar Scalar, cpu_backend B>
class attention_state<Scalar, B> {
 public:
  attention_state()                       = default;
  attention_state(const attention_state&) = default;
  attention_state(attention_state&& other) noexcept : attention_state() { swap(other); }
  attention_state& operator=(attention_state other) noexcept {
    swap(other);
    return *this;
  }

  /// Tokens so far.
  [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

  /// Forgets the sequence; memory is kept.
  void clear() noexcept {
    tokens_ = 0;
    begun_ = broken_off_ = false;
    for (auto& of_selection : clusters_) of_selection.tokens = of_selection.count = 0;
  }

  /// The next call makes room for `tokens` tokens at least.
  void reserve(index_t tokens) noexcept { wanted_ = std::max(wanted_, tokens); }

  /// Forgets the tokens from `tokens` on. By mass, that is a multiple of options.tile, or lies in one of the two tiles
  /// that were attended to last, or before any far field (`unsupported`): what earlier ones opened is no longer known.
  /// Where leaves have tokens beyond its chunk's edge, the next call makes them again, all of their KV head.
  [[nodiscard]] status truncate(index_t tokens) noexcept {
    if (const status answer = detail::check_truncated_state(tokens, tokens_); answer != status::ok) return answer;
    if (tokens == 0) return clear(), status::ok;
    if (broken_off_) return detail::broken_off();
    if (tokens == tokens_) return status::ok;
    if (!detail::has_leaves(options_)) {
      tokens_ = tokens;
      return status::ok;
    }
    const index_t edge = edge_of(options_, tokens);
    for (auto& head : heads_)
      if (detail::needs_opened(options_, tokens) && !head.remembered.knows(tokens))
        return {status::unsupported, "tokens lies inside a tile of long ago: only its edges are left"};
    for (auto& of_selection : clusters_) of_selection.truncate(edge);
    for (auto& head : heads_)
      if (head.leaves.tokens() > edge) begin_leaves(head, head.leaves.shape());
    tokens_ = tokens;
    return status::ok;
  }

  /// Of what save() writes: a number for each token that leaves may stand for and each selection, and what the last two
  /// tiles opened. O(KV heads).
  [[nodiscard]] std::size_t saved_bytes() const noexcept { return kernel::state_writer<B>::size_of(*this); }

  /// Makes `to` an independent copy, as an assignment does, but not of a call that was broken off.
  [[nodiscard]] status fork(attention_state& to) const {
    if (broken_off_) return detail::broken_off();
    to = *this;
    return status::ok;
  }

  /// The state as bytes [saved_bytes()], for attention's load.
  [[nodiscard]] status save(std::span<std::byte> bytes) const noexcept {
    if (broken_off_) return detail::broken_off();
    return kernel::state_writer<B>::save(*this, kernel::saved_kind::attention, kernel::saved_rows<Scalar>, bytes);
  }

  /// Memory in use, beside K and V: grows with the leaves.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t all = 0;
    if (!begun_) return all;
    for (const auto& of_selection : clusters_) all += static_cast<std::size_t>(of_selection.tokens) * sizeof(index_t);
    if (detail::has_leaves(options_))
      for (const auto& head : heads_)
        all += head.leaves.bytes() + static_cast<std::size_t>(head.leaders.count) * sizeof(index_t);
    return all;
  }

 private:
  friend class attention<Scalar, B>;
  friend class kernel::state_writer<B>;
  using element    = kernel::operand_of<Scalar, B>;
  using head_state = kernel::attention::kv_head_state<B, element>;

  /// Tokens whose clusters are known.
  index_t selected() const noexcept { return clusters_.empty() ? 0 : clusters_.front().tokens; }

  static index_t last_edge(const attention_options& options, index_t tokens) noexcept {
    return edge_of(options, tokens - 1);
  }

  /// Whether `count` more tokens of `heads` query heads may follow.
  template <class KV>
  status check(const attention_options& options, const KV& kv, index_t heads, index_t count,
               std::span<const representatives> selections) const noexcept {
    if (broken_off_) return detail::broken_off();
    if (begun_) {
      const bool   same_kv = kv.kv_heads() == kv_heads_ && kv.key_dim() == key_dim_ && kv.value_dim() == value_dim_;
      const status answer  = detail::check_going_on(detail::words_of(options) == detail::words_of(options_), same_kv,
                                                    heads == heads_of_q_);
      if (answer != status::ok) return answer;
    }
    if (const status answer = detail::check_room_of_keys(kv.tokens(), tokens_, count); answer != status::ok)
      return answer;
    const index_t edge = last_edge(options, tokens_ + count);
    if (!needs_selections(options) || edge <= selected()) return status::ok;
    if (const status answer =
            detail::check_selections_of_heads(selections.size(), kv.kv_heads(), selected() > 0 ? clusters_.size() : 0);
        answer != status::ok)
      return answer;
    return detail::check_selections_up_to<B>(selections, edge);
  }

  /// Memory for a call whose last token is T - 1, and the clusters up to its last edge.
  template <class Sequence, class Workspace>
  void prepare(const attention_options& options, const Sequence& sequence, std::span<const representatives> selections,
               Workspace& space, const B& where) {
    const index_t T = sequence.tokens, edge = last_edge(options, T);
    const bool    far  = detail::has_leaves(options);
    const index_t room = std::max(wanted_, T <= room_ ? room_ : std::max(T, kernel::half_more(room_)));
    kernel::attention::prepare_workers(sequence, options, room, space, where);
    const auto shape = kernel::attention::shape_of_leaves(sequence, options);
    if (far) make_room(options, shape, sequence.kv.kv_heads(), room, space);
    if (far && edge > selected()) clusters_.resize(selections.size());
    if (far)
      for (auto& of_selection : clusters_) of_selection.cluster_of.grow(room, of_selection.tokens);
    // From here on, nothing fails but an executor that throws.
    broken_off_ = true;
    room_       = room;
    if (!begun_) begin(options, sequence, shape);
    if (!far) return;
    for (std::size_t s = 0; s < clusters_.size() && edge > clusters_[s].tokens; ++s)
      clusters_[s].extend(selections[s], edge);
    for (index_t h = 0; h < kv_heads_ && selected() > 0; ++h) {
      const auto& own           = clusters_of(h);
      space.scratch_of(h).lists = {{own.cluster_of.data(), static_cast<std::size_t>(own.tokens)}, {}, {}};
    }
    for (auto& head : heads_) head.remembered.begin_call(sequence.first, T);
    if (detail::forms_by_keys(options)) resume_chains(options, sequence, space, where);
  }

  const kernel::attention::growing_clusters<B>& clusters_of(index_t kv_head) const noexcept {
    return clusters_[clusters_.size() == 1 ? 0 : static_cast<std::size_t>(kv_head)];
  }

  /// The chains go on from where the leaves end. Only where tokens follow are those there are begun again.
  template <class Sequence, class Workspace>
  void resume_chains(const attention_options& options, const Sequence& sequence, Workspace& space, const B& where) {
    const index_t end = heads_.front().leaves.tokens();
    for (index_t h = 0; h < kv_heads_; ++h) space.scratch_of(h).chains.clear(key_dim_, options.leaf_threshold, end);
    if (selected() <= end) return;
    kernel::attention::for_each_task(where, space.crew(), std::int64_t{kv_heads_}, [&](index_t, std::int64_t task) {
      const auto  h       = static_cast<index_t>(task);
      const auto& own     = clusters_of(h);
      const auto& leaders = heads_[static_cast<std::size_t>(h)].leaders;
      auto&       chains  = space.scratch_of(h).chains;
      chains.add_clusters(own.count);
      chains.resume(leaders, own.cluster_of.data(), [&](index_t t) { return sequence.key(t, h); });
    });
  }

  /// Memory for `room` tokens. What there is stays, unless the state has not begun.
  template <class Workspace>
  void make_room(const attention_options& options, const kernel::attention::leaf_shape& shape, index_t kv_heads,
                 index_t room, Workspace& space) {
    const bool by_keys = detail::forms_by_keys(options);
    if (!begun_) heads_.resize(static_cast<std::size_t>(kv_heads));
    for (auto& head : heads_) {
      if (!begun_) {
        head.leaves.reserve(room, shape);
        head.remembered.clear();
      } else if (room > room_) {
        head.leaves.grow(room);
      }
      if (by_keys) head.leaders.tokens.grow(room, head.leaders.count);
      head.remembered.grow(room, detail::opens_by_mass(options) ? options.tile : 0);
    }
    kernel::attention::grow(space.of_heads, kv_heads);
    for (index_t h = 0; h < kv_heads; ++h) {
      space.scratch_of(h).sums.reserve(room, shape);
      if (by_keys) space.scratch_of(h).chains.reserve(room, shape.key_dim);
    }
  }

  void begin_leaves(head_state& head, const kernel::attention::leaf_shape& shape) noexcept {
    head.leaves.clear(shape, room_);
    head.leaders.count = 0;
  }

  template <class Sequence>
  void begin(const attention_options& options, const Sequence& sequence,
             const kernel::attention::leaf_shape& shape) noexcept {
    options_  = options;
    kv_heads_ = sequence.kv.kv_heads(), key_dim_ = sequence.q.dim, value_dim_ = sequence.kv.value_dim();
    heads_of_q_ = sequence.q.heads;
    begun_      = true;
    if (detail::has_leaves(options))
      for (auto& head : heads_) begin_leaves(head, shape);
  }

  template <class Workspace>
  void finish(index_t tokens, Workspace& space) noexcept {
    tokens_     = tokens;
    broken_off_ = false;
    for (index_t h = 0; detail::forms_by_keys(options_) && selected() > 0 && h < kv_heads_; ++h)
      space.scratch_of(h).chains.put_leaders(heads_[static_cast<std::size_t>(h)].leaders);
  }

  /// T; if there are any: options, shapes, for each selection the clusters of the tokens that leaves may stand for, and
  /// for each KV head what the last tiles opened. Leaves are made again from K and V.
  void put(kernel::state_writer<B>& to) const noexcept {
    to.put(tokens_);
    if (tokens_ == 0) return;
    to.put(detail::words_of(options_));
    const index_t end = selected(), selections = end > 0 ? static_cast<index_t>(clusters_.size()) : 0;
    for (const index_t size : {kv_heads_, key_dim_, value_dim_, heads_of_q_, selections, end}) to.put(size);
    for (const auto& of_selection : clusters_) to.put(of_selection.cluster_of.data(), end);
    for (const auto& head : heads_)
      if (detail::opens_by_mass(options_)) head.remembered.put(tokens_, to);
  }

  /// Turns to what put() wrote, or, where it is something else, stays as it was.
  template <class KV, class Workspace>
  status load(const attention_options& options, const KV& kv, std::span<const std::byte> bytes, Workspace& space,
              const B& where) {
    kernel::state_reader<B> from(bytes);
    const status            opened = from.open(kernel::saved_kind::attention, kernel::saved_rows<Scalar>);
    if (opened != status::ok) return opened;
    attention_state loaded;
    loaded.wanted_ = wanted_;
    if (const status answer = loaded.take(options, kv, from, space, where); answer != status::ok) return answer;
    swap(loaded);
    return status::ok;
  }

  /// Sizes are those of kv, or of bytes that are there, before there is memory for them.
  template <class KV, class Workspace>
  status take(const attention_options& options, const KV& kv, kernel::state_reader<B>& from, Workspace& space,
              const B& where) {
    index_t tokens = 0, heads = 0, selections = 0, end = 0;
    if (!from.take(tokens)) return kernel::sizes_differ();
    if (tokens == 0) return from.done() ? status(status::ok) : kernel::sizes_differ();
    if (!from.matches(detail::words_of(options)))
      return {status::unsupported, "bytes is the state of attention with other options"};
    if (!from.matches(kv.kv_heads()) || !from.matches(kv.key_dim()) || !from.matches(kv.value_dim()))
      return {status::invalid_shape, "bytes is the state for keys and values of another shape"};
    if (!from.take(heads) || !from.take(selections) || !from.take(end) || tokens < 0) return kernel::sizes_differ();
    if (kv.tokens() < tokens)
      return {status::invalid_shape, "kv.tokens() is less than the tokens of the state in bytes"};
    if (heads < 1 || heads % kv.kv_heads() != 0)
      return {status::invalid_shape, "bytes has query heads that are no multiple of its KV heads"};
    const bool    far   = detail::has_leaves(options);
    const index_t least = far ? last_edge(options, tokens) : 0;
    const index_t most  = far ? edge_of(options, tokens) : 0;
    const bool    each  = detail::one_or_each(static_cast<std::size_t>(selections), kv.kv_heads());
    if (end < least || end > most || (end > 0 ? !each : selections != 0))
      return {status::invalid_shape, "bytes has clusters of other tokens than a far field's"};
    clusters_.resize(static_cast<std::size_t>(selections));
    for (auto& of_selection : clusters_) {
      if (!from.template holds<index_t>(end)) return kernel::sizes_differ();
      of_selection.cluster_of.reserve(std::max(tokens, wanted_));
      if (!of_selection.take(from, end))
        return detail::illegal("bytes has clusters that are not numbered by their first tokens");
    }
    kernel::attention::attention_sequence<Scalar, KV, Scalar> sequence = {
        .q = {.heads = heads, .dim = kv.key_dim()}, .kv = kv, .out = {}};
    sequence.first = sequence.tokens = tokens;
    prepare(options, sequence, {}, space, where);
    if (end > 0)
      kernel::attention::for_each_task(
          where, space.crew(), std::int64_t{kv.kv_heads()}, [&](index_t, std::int64_t kv_head) {
            const auto head = static_cast<index_t>(kv_head);
            kernel::attention::extend_leaves(sequence, options.leaves, head, end, space.scratch_of(head),
                                             heads_[static_cast<std::size_t>(head)].leaves);
          });
    for (auto& head : heads_)
      if (detail::opens_by_mass(options) && !head.remembered.take(tokens, from, [&](index_t tile) {
            return head.leaves.count_before(last_edge(options, tile * options.tile + 1));
          }))
        return {status::invalid_shape, "bytes has open leaves that its last tiles cannot have"};
    if (!from.done()) return kernel::sizes_differ();
    finish(tokens, space);
    return status::ok;
  }

  void swap(attention_state& other) noexcept {
    const attention_options mine = options_;  // no std::swap, which unoptimised objects would share
    options_                     = other.options_;
    other.options_               = mine;
    std::swap(tokens_, other.tokens_), std::swap(room_, other.room_), std::swap(wanted_, other.wanted_);
    std::swap(kv_heads_, other.kv_heads_), std::swap(key_dim_, other.key_dim_);
    std::swap(value_dim_, other.value_dim_), std::swap(heads_of_q_, other.heads_of_q_);
    std::swap(begun_, other.begun_), std::swap(broken_off_, other.broken_off_);
    heads_.swap(other.heads_), clusters_.swap(other.clusters_);
  }

  attention_options                                   options_ = {};
  index_t                                             tokens_ = 0, room_ = 0, wanted_ = 0;
  index_t                                             kv_heads_ = 0, key_dim_ = 0, value_dim_ = 0, heads_of_q_ = 0;
  std::vector<head_state>                             heads_;
  std::vector<kernel::attention::growing_clusters<B>> clusters_ = {};  // one, or one per KV head
  bool                                                begun_ = false, broken_off_ = false;
};

}  // namespace cascada::inline CASCADA_ABI
