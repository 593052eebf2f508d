#pragma once
// One sequence that grows on gfx942: how many tokens it has, which the device counts, and their leaves.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "cascada/attention.hpp"
#include "cascada/attention_checks.hpp"
#include "cascada/hip/attention/grown_arrays.hpp"
#include "cascada/hip/attention/truncate_tokens.hpp"
#include "cascada/hip/attention/workspace.hpp"
#include "cascada/hip/base/growth.hpp"
#include "cascada/hip/base/launches.hpp"
#include "cascada/hip/base/memory.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/option_words.hpp"

namespace cascada::inline CASCADA_ABI {

/// A sequence in one layer that grows on gfx942, as attention.hpp says, on the stream of its attention. It belongs to
/// the options and shapes of its first call; with others it is refused (`unsupported`, `invalid_shape`). What differs:
///
///   fork(to)          makes `to` an independent copy on the same stream; a state moves, and is not copied otherwise.
///                     There is no save() and no load()
///   extend            asks for a selection in every call with a far field, also where no token leaves the near field
///   replayed(tokens)  says that graphs, into which calls of extend were captured, have added so many tokens
///   answer()          waits for the stream: `ok`, or why calls have failed while they ran
///
/// A call that fails while it runs (a selection has failed, of whichever KV head, `invalid_representatives`, or a graph
/// was replayed beyond the memory, `too_large`) writes and adds nothing, for no head, but the host does not know: its
/// tokens count, and later calls fail likewise, until truncate() or clear() forgets them. `device_error`: the runtime
/// refused memory, and all is as it was; or a launch of extend() or truncate(), or a copy of fork() into memory that is
/// there, and the state, of a fork the one that is written, is refused until it is cleared.
///
/// No launch and no argument depends on how many tokens there are: within reserved memory (`reserve` here and a call
/// before, or attention's `reserve`), a captured call goes on, each time it is replayed, from the tokens that are
/// there, while no other call of that attention needs more memory. Without it, memory doubles as it is needed.
///
/// Keys and values may lie in rows in one call, in pages or with transposed values in the next. Which row of a pool a
/// token has is looked up in each call, for all tokens that are there, so that nothing of the table is kept: 4 bytes a
/// token in the workspace. So are transposed values laid out in each call: there, as many bytes as values.
///
/// Selections are one, or one for each KV head, as many in every call since the state was new or cleared
/// (`invalid_representatives`). Of n new tokens, O(n leaf d) for their leaves; by keys, O(n anchors d) for each KV
/// head. Where leaves open by mass, what the last two bands opened is remembered, those whole tiles of queries that
/// share a list (band_of), and truncate goes there or to a band's edge. Memory, with leaves, as many bytes as K and V
/// of the tokens there is room for; for each of them 24 more, or by keys 36 for each KV head, 16 for each KV head where
/// there are moments, 8 for each chunk that a call may lie in (by keys, for each KV head), up to 256 MiB, and by mass
/// 12 for each KV head and 32 tokens of a band. With a selection for each KV head, 28 for each instead of 24, or 40
/// by keys, and those 8 for each, too. Else O(1). With leaves, truncate is O(T).
template <row_scalar Scalar, gfx942_backend B>
class attention_state<Scalar, B> {
  static_assert(hip::matrix_scalar<Scalar>, "attention_state on gfx942: rows are bfloat16 or float16");

 public:
  explicit attention_state(B where = {}) : where_(where), memory_(std::move(where)) {}

  attention_state(attention_state&& other) noexcept
      : where_(other.where_),
        memory_(std::move(other.memory_)),
        arrays_(std::exchange(other.arrays_, {})),
        options_(other.options_),
        tokens_(std::exchange(other.tokens_, 0)),
        wanted_(std::exchange(other.wanted_, 0)),
        remembered_(std::exchange(other.remembered_, 0)),
        begun_(std::exchange(other.begun_, false)),
        broken_off_(std::exchange(other.broken_off_, false)) {}
  attention_state& operator=(attention_state&& other) noexcept {
    where_      = other.where_;
    memory_     = std::move(other.memory_);
    arrays_     = std::exchange(other.arrays_, {});
    options_    = other.options_;
    tokens_     = std::exchange(other.tokens_, 0);
    wanted_     = std::exchange(other.wanted_, 0);
    remembered_ = std::exchange(other.remembered_, 0);
    begun_      = std::exchange(other.begun_, false);
    broken_off_ = std::exchange(other.broken_off_, false);
    return *this;
  }

  /// Tokens so far, those of calls that failed on the device included.
  [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

  /// Forgets the sequence; memory is kept.
  void clear() noexcept {
    tokens_ = remembered_ = 0, begun_ = broken_off_ = false;
    if (arrays_.grown.state && clear_links(arrays_) != status::ok) {  // the next call makes memory, and is told why not
      memory_ = hip::device_memory<B>(where_);
      arrays_ = {};
    }
  }

  /// The next call makes room for `tokens` tokens at least.
  void reserve(index_t tokens) noexcept { wanted_ = std::max(wanted_, tokens); }

  /// Forgets the tokens from `tokens` on, and what failed calls brought. By mass, that is a multiple of a band, or lies
  /// in one of the last two bands, or before any far field (`unsupported`): what earlier ones opened is no longer
  /// known. Where the host would refuse, it waits for the stream first, since calls may have failed.
  [[nodiscard]] status truncate(index_t tokens) {
    if (const status answer = detail::check_truncated_state(tokens, tokens_); answer != status::ok) return answer;
    if (tokens == 0) return clear(), status::ok;
    if (broken_off_) return detail::broken_off();
    if (!remembers(tokens, remembered_)) {
      hip::attention::grown_state state;
      const status                answer = where_.download(&state, arrays_.grown.state, sizeof(state));
      if (answer != status::ok) return answer;
      if (!remembers(tokens, state.remembered))
        return {status::unsupported, "tokens lies inside a band of tiles of long ago: only its edges are left"};
    }
    broken_off_ = true;
    hip::launches<B> launch(where_);
    if (arrays_.plan.chunk > 0) {
      const index_t sinks = options_.sink_tokens, room = arrays_.plan.sizes.tokens;
      launch(hip::attention::truncate_leaves<false>{arrays_.grown, arrays_.leaves, tokens, sinks, room});
      launch(hip::attention::truncate_leaves<true>{arrays_.grown, arrays_.leaves, tokens, sinks, room});
    }
    launch(hip::attention::truncate_tokens{arrays_.grown, arrays_.leaves, arrays_.chains, tokens,
                                           arrays_.plan.sizes.tokens});
    if (launch.answer() != status::ok) return launch.answer();
    tokens_ = tokens, remembered_ = std::min(remembered_, tokens);
    broken_off_ = false;
    return status::ok;
  }

  [[nodiscard]] status replayed(index_t tokens) noexcept {
    if (broken_off_) return detail::broken_off();
    if (const status answer = hip::check_replayed(tokens, arrays_.plan.sizes.tokens - tokens_); answer != status::ok)
      return answer;
    if (tokens > 0) add(tokens);
    return status::ok;
  }

  [[nodiscard]] status fork(attention_state& to) const {
    if (&to == this) return status::ok;
    if (broken_off_) return detail::broken_off();
    if (const status answer = to.become(*this); answer != status::ok) return answer;
    to.options_ = options_, to.tokens_ = tokens_, to.remembered_ = remembered_, to.begun_ = begun_;
    to.broken_off_ = false;
    to.wanted_     = std::max(to.wanted_, wanted_);
    return status::ok;
  }

  /// Waits for the stream. Why the first call that failed and is not forgotten did.
  [[nodiscard]] status answer() const {
    if (!arrays_.grown.state) return status::ok;
    hip::attention::grown_state state;
    const status                answer = where_.download(&state, arrays_.grown.state, sizeof(state));
    return answer == status::ok ? state.answer : answer;
  }

  /// The CPU's states are saved.
  template <class Bytes>
  status save(const Bytes&) const {
    static_assert(sizeof(Bytes) == 0, "attention_state on gfx942: there is no save(); the CPU's has it");
    return status::unsupported_by_device;
  }

  template <class Self = attention_state>
  std::size_t saved_bytes() const {
    static_assert(sizeof(Self) == 0, "attention_state on gfx942: there is no save(); the CPU's has it");
    return 0;
  }

  /// Device memory of the state, beside K and V.
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size(); }

 private:
  friend class attention<Scalar, B>;
  using sizes  = hip::attention::sequence_sizes;
  using plan   = hip::attention::grown_plan;
  using arrays = hip::attention::grown_arrays<Scalar>;

  /// Whether a sequence of such sizes may follow.
  status check(const attention_options& options, const sizes& of) const noexcept {
    if (broken_off_) return detail::broken_off();
    if (!begun_) return status::ok;
    const sizes& had = arrays_.plan.sizes;
    return detail::check_going_on(detail::words_of(options) == detail::words_of(options_),
                                  of.kv_heads == had.kv_heads && of.dim == had.dim, of.heads == had.heads);
  }

  /// Whether `of.queries` more tokens may follow, where there are so many keys.
  status check(const attention_options& options, const sizes& of, index_t keys,
               std::span<const hip::selection_layer> selections) const noexcept {
    if (const status answer = check(options, of); answer != status::ok) return answer;
    if (const status answer = detail::check_room_of_keys(keys, tokens_, of.queries); answer != status::ok)
      return answer;
    if (!needs_selections(options)) return status::ok;
    if (const status answer = detail::check_selections_of_heads(selections.size(), of.kv_heads, sets());
        answer != status::ok)
      return answer;
    return detail::check_selections_up_to<B>(selections, edge_of(options, tokens_ + of.queries - 1));
  }

  /// Selections that every call has; 0: none has come.
  std::size_t sets() const noexcept { return begun_ ? static_cast<std::size_t>(arrays_.plan.sizes.sets) : 0; }

  /// Sizes with room for `tokens` tokens, or for as many as were wanted, and for as much again where there is too
  /// little.
  sizes with_room(sizes of, std::int64_t tokens) const noexcept {
    of.tokens = hip::doubled_room(arrays_.plan.sizes.tokens, std::max<std::int64_t>({tokens, wanted_, 1}));
    return of;
  }

  /// Memory for sizes that have room. What there is goes along.
  status make_room(const attention_options& options, const sizes& of) {
    plan larger = plan::of<B>(options, of);
    if (arrays_.have_room_for(larger)) return status::ok;
    if (larger.leaf_sets == arrays_.plan.leaf_sets) larger.fields = std::max(larger.fields, arrays_.plan.fields);
    larger.slices = std::max(larger.slices, arrays_.plan.slices);
    return move_to(larger, begun_ ? &arrays_ : nullptr, tokens_);
  }

  /// New memory, with `tokens` tokens of another one, if there is one.
  status move_to(const plan& larger, const arrays* from, index_t tokens) {
    hip::device_memory<B> memory(where_);
    arrays                to;
    status                answer = memory.carve([&](hip::carver& carver) { to.cut(carver, larger); });
    if (answer == status::ok) answer = clear_links(to);
    if (answer == status::ok && from) answer = copy(*from, tokens, to);
    if (answer == status::ok) memory_ = std::move(memory), arrays_ = to;
    return answer;
  }

  /// No tokens.
  status clear_links(const arrays& of) const noexcept {
    const std::size_t bytes  = static_cast<std::size_t>(of.plan.sizes.tokens) * sizeof(index_t);
    status            answer = where_.clear(of.grown.state, sizeof(*of.grown.state));
    const std::size_t sets   = static_cast<std::size_t>(of.leaves.sets);
    if (answer == status::ok && of.plan.chunk > 0) answer = where_.clear(of.leaves.next, sets * bytes);
    if (answer == status::ok && of.plan.chunk > 0) answer = where_.clear(of.leaves.tail, sets * bytes);
    if (answer == status::ok && of.plan.chunk > 0) answer = where_.clear(of.leaves.count, sets * sizeof(index_t));
    if (answer == status::ok && of.chains.sets > 0) answer = where_.clear(of.chains.count, sets * sizeof(index_t));
    return answer;
  }

  /// The tokens of another one, into links that are clear, and the far field at hand.
  status copy(const arrays& from, index_t tokens, const arrays& to) const {
    status     answer = status::ok;
    const auto copy   = [&](auto* target, const auto* source, std::int64_t count) {
      if (answer == status::ok) answer = where_.copy(target, source, static_cast<std::size_t>(count) * sizeof(*target));
    };
    copy(to.grown.state, from.grown.state, 1);
    if (from.plan.chunk == 0) return answer;
    const std::int64_t room = from.plan.sizes.tokens, larger = to.plan.sizes.tokens, lists = from.leaves.sets;
    const auto         copy_tokens = [&](auto* target, const auto* source, std::int64_t sets, std::int64_t each) {
      for (std::int64_t set = 0; set < sets; ++set)
        copy(target + set * larger * each, source + set * room * each, tokens * each);
    };
    arrays::for_each_of_tokens(to, from, copy_tokens);
    copy_tokens(to.leaves.far_rows, from.leaves.far_rows, lists, 1);
    copy_tokens(to.leaves.far_sizes, from.leaves.far_sizes, lists, 1);
    copy(to.leaves.count, from.leaves.count, lists), copy(to.leaves.far_count, from.leaves.far_count, lists);
    copy(to.chains.count, from.chains.count, from.chains.sets);
    return answer;
  }

  /// Copies another sequence, into the memory that is there if it has room.
  status become(const attention_state& other) {
    const arrays& from = other.arrays_;
    if (!from.grown.state) return clear(), status::ok;
    if (arrays_.have_room_for(from.plan)) {
      broken_off_         = true;
      const status answer = clear_links(arrays_);
      return answer == status::ok ? copy(from, other.tokens_, arrays_) : answer;
    }
    return move_to(from.plan, &from, other.tokens_);
  }

  /// Whether a sequence that ends before token `position` can go on, where all is remembered from token `from` on.
  bool remembers(index_t position, index_t from) const noexcept {
    return !detail::needs_opened(options_, position) || position >= from || position % band() == 0;
  }

  /// By mass.
  index_t band() const noexcept { return hip::attention::band_of(options_, arrays_.plan.sizes.group()); }

  /// Tokens have followed.
  void add(index_t tokens) noexcept {
    tokens_ += tokens;
    if (detail::opens_by_mass(options_)) remembered_ = hip::attention::remembered_from(remembered_, tokens_, band());
    broken_off_ = false;
  }

  /// A call, which is broken off until its tokens are added.
  void begin(const attention_options& options) noexcept {
    options_ = options;
    begun_ = broken_off_ = true;
  }

  B                     where_;
  hip::device_memory<B> memory_;
  arrays                arrays_     = {};
  attention_options     options_    = {};  // since a call has begun
  index_t               tokens_     = 0;
  index_t               wanted_     = 0;
  index_t               remembered_ = 0;  // by mass: from this token on, what opened
  bool                  begun_      = false;
  bool                  broken_off_ = false;
};

}  // namespace cascada::inline CASCADA_ABI
