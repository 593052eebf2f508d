#pragma once
// growing_selection on gfx942: the class of select.hpp for rows in device memory.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "cascada/hip/base/aligned_rows.hpp"
#include "cascada/hip/base/downloaded_selection.hpp"
#include "cascada/hip/base/growth.hpp"
#include "cascada/hip/base/memory.hpp"
#include "cascada/hip/base/selection_layer.hpp"
#include "cascada/hip/select/adopt.hpp"
#include "cascada/hip/select/begin_extension.hpp"
#include "cascada/hip/select/check.hpp"
#include "cascada/hip/select/download.hpp"
#include "cascada/hip/select/graph.hpp"
#include "cascada/hip/select/grown_arrays.hpp"
#include "cascada/hip/select/launch_advance.hpp"
#include "cascada/hip/select/meet_kept.hpp"
#include "cascada/hip/select/number_kept.hpp"
#include "cascada/hip/select/truncate.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

/// A selection that grows on gfx942. As select.hpp says, set, rep and counts bit for bit, and as selector.hpp, also of
/// threads. What differs:
///
///   extend(x, below)  below is what kept() of the layer below gives once it has these tokens, or is empty
///   reserve(tokens, cols, piece)
///                     memory for so many tokens, of calls of at most `piece` tokens. Without it, memory doubles as it
///                     is needed: sets and rows are then copied on the device
///   fork(to)          makes `to`, which has the same options, an independent copy on the same stream; it is not copied
///                     otherwise. There is no save() and no load()
///   replayed(tokens)  says that graphs, into which calls of extend were captured, have added so many tokens
///
/// A call that fails while it runs (`non_finite_token`, `too_many_representatives`) adds nothing, but the host does not
/// know: its tokens count, attention to them writes nothing, and later calls fail likewise, until truncate() or clear()
/// forgets them. download() then has the set before that call, with its answer: as many tokens are good.
///
/// `device_error`: the runtime refused memory, a launch or a copy. The set is as it was, without a report, and the call
/// may be repeated; what fork() writes to is as it was, or empty.
///
/// Memory is that of min(tokens, max_representatives) rows, since r is known to the device alone, and some numbers a
/// token. A call takes T / 256 launches for its T tokens and five more; a single token takes 5, and O(r d) work on as
/// many compute units as there are panels of 128 representatives. No launch and no argument depends on how many tokens
/// there are: within reserved memory, a captured call goes on, each time it is replayed, from the tokens that are
/// there.
template <row_scalar Scalar, gfx942_backend B>
class growing_selection<Scalar, B> {
  static_assert(hip::matrix_scalar<Scalar>, "growing_selection on gfx942: rows are bfloat16 or float16");

 public:
  explicit growing_selection(selection_options options = {}, B where = {})
      : options_(options), where_(std::move(where)), memory_(where_) {}

  growing_selection(growing_selection&& other) noexcept
      : options_(other.options_),
        where_(other.where_),
        memory_(std::move(other.memory_)),
        arrays_(std::exchange(other.arrays_, {})),
        tokens_(std::exchange(other.tokens_, 0)),
        counted_(std::exchange(other.counted_, true)),
        set_number_(std::move(other.set_number_)) {}
  growing_selection& operator=(growing_selection&& other) noexcept {
    options_    = other.options_;
    where_      = other.where_;
    memory_     = std::move(other.memory_);
    arrays_     = std::exchange(other.arrays_, {});
    tokens_     = std::exchange(other.tokens_, 0);
    counted_    = std::exchange(other.counted_, true);
    set_number_ = std::move(other.set_number_);
    return *this;
  }

  [[nodiscard]] status extend(matrix_view<const Scalar> x, const hip::selection_layer& below = {}) {
    if (const status answer = check(x, below); answer != status::ok) return answer;
    if (x.rows > 0)
      if (const status answer = make_room(x); answer != status::ok) return answer;
    if (!arrays_.set.state) return status::ok;
    if (x.rows > 0) set_number_.renew();
    const status answer = launch(arrays_.call(options_, x, below));
    counted_            = answer == status::ok;
    if (counted_) tokens_ += x.rows;
    return answer;
  }

  [[nodiscard]] status reserve(index_t tokens, index_t cols, index_t piece = 1) {
    if (tokens < 0) return {status::invalid_shape, "tokens is negative"};
    if (piece < 1) return {status::invalid_shape, "piece is less than 1"};
    if (cols < 1) return {status::invalid_shape, "cols is less than 1"};
    if (tokens_ > 0 && cols != arrays_.cols) return {status::invalid_shape, "cols differs from that of earlier calls"};
    const matrix_view<const Scalar> most{hip::aligned_nothing<B, Scalar>(), std::max(tokens, piece), cols, cols};
    if (const status answer = hip::select::check(most, options_); answer != status::ok) return answer;
    return make_room(std::max(tokens, arrays_.set.token_room), cols, std::max(piece, arrays_.piece));
  }

  /// Forgets what failed calls brought, too.
  [[nodiscard]] status truncate(index_t tokens) {
    if (const status answer = detail::check_truncation(tokens, tokens_); answer != status::ok) return answer;
    if (!arrays_.set.state) return status::ok;
    const status answer = where_.launch(hip::select::truncate_selection<Scalar>{arrays_.set, tokens});
    if (answer != status::ok) return answer;
    if (tokens < tokens_) set_number_.renew();
    tokens_ = tokens;
    return status::ok;
  }

  void clear() noexcept {
    set_number_.renew();
    tokens_ = 0;
    if (arrays_.set.state && clear_set(arrays_) != status::ok) lose();
  }

  [[nodiscard]] status replayed(index_t tokens) noexcept {
    if (const status answer = hip::check_replayed(tokens, arrays_.set.token_room - tokens_); answer != status::ok)
      return answer;
    set_number_.renew();
    tokens_ += tokens;
    return status::ok;
  }

  [[nodiscard]] status fork(growing_selection& to) const {
    if (&to == this) return status::ok;
    if (const status answer = to.become(*this); answer != status::ok) return answer;
    to.set_number_.renew();
    to.tokens_  = tokens_;
    to.counted_ = counted_;
    return status::ok;
  }

  /// The CPU's selections that grow are saved.
  template <class Bytes>
  status save(const Bytes&) const {
    static_assert(sizeof(Bytes) == 0, "growing_selection on gfx942: there is no save(); the CPU's has it");
    return status::unsupported_by_device;
  }
  template <class Bytes>
  status load(const Bytes&) {
    static_assert(sizeof(Bytes) == 0, "growing_selection on gfx942: there is no load(); the CPU's has it");
    return status::unsupported_by_device;
  }
  template <class Self = growing_selection>
  std::size_t saved_bytes() const {
    static_assert(sizeof(Self) == 0, "growing_selection on gfx942: there is no save(); the CPU's has it");
    return 0;
  }

  /// Device memory of the set so far, for what follows on the same stream; empty where there is none. Valid until the
  /// next call that changes it. A graph that is replayed changes it as well.
  [[nodiscard]] hip::selection_layer kept() const noexcept {
    if (tokens_ == 0) return {};
    const hip::select::layer_memory& layer = arrays_.set.layer;
    return {layer.indices, layer.rep, layer.counts, layer.count, tokens_, set_number_.stamp()};
  }

  /// Waits for the stream. Of the last extension, nothing if that failed.
  [[nodiscard]] selection_report report() const {
    if (!arrays_.set.state) return {};
    hip::select::grown_state state;
    selection_report         of_call;
    const status             answer = where_.download(&state, arrays_.set.state, sizeof(state));
    return answer == status::ok && download(of_call, state) == status::ok ? of_call : selection_report{};
  }

  /// Waits for the stream, and copies the set and the report. The answer is that of the last extension, or of the first
  /// that failed and is not forgotten; the set is without its tokens.
  [[nodiscard]] status download(hip::downloaded_selection& to) const {
    if (!arrays_.set.state) return to = {}, status::ok;
    hip::select::grown_state state;
    if (const status answer = where_.download(&state, arrays_.set.state, sizeof(state)); answer != status::ok)
      return answer;
    const status answer = hip::select::download_set(where_, arrays_.set.layer, state.representatives, state.tokens, to);
    return answer == status::ok ? download(to.report, state) : answer;
  }

  /// Device memory that the sequence and its calls have.
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size(); }

 private:
  using carver = hip::carver;
  using arrays = hip::select::grown_arrays<Scalar>;

  status check(const matrix_view<const Scalar>& x, const hip::selection_layer& below) const noexcept {
    if (const status answer = hip::select::check(x, options_); answer != status::ok) return answer;
    if (x.rows == 0) return status::ok;
    if (const status answer = detail::check_extension(x, tokens_, arrays_.cols); answer != status::ok) return answer;
    if (below.stamp.stale())
      return detail::illegal("below is a view of a set that its owner has replaced: call kept() again");
    if (below.rep && below.tokens() != tokens_ + x.rows)
      return detail::illegal("below has not one entry for each token up to the last of x");
    return status::ok;
  }

  status launch(const hip::select::extension_call<Scalar>& of) const {
    using namespace hip::select;
    if (const status answer = where_.clear(arrays_.of_call.counters, sizeof(selection_counters)); answer != status::ok)
      return answer;
    const auto&      call = of.call;
    hip::launches<B> launch(where_);
    launch(begin_extension<Scalar>{of});
    if (call.tokens() > 1)
      launch(selection_graph<Scalar>{{call.rows, call.memory, call.now, call.before, call.assign, call.limit}});
    if (call.tokens() > 0)
      options_.assign == assignment::nearest ? meet<assignment::nearest>(launch, of)
                                             : meet<assignment::lowest_index>(launch, of);
    launch_advance(launch, call);
    launch(adopt_extension<Scalar>{of});
    return launch.answer();
  }

  template <assignment Assign>
  static void meet(hip::launches<B>& launch, const hip::select::extension_call<Scalar>& of) {
    launch(hip::select::meet_kept<Scalar, Assign>{of});
    launch(hip::select::join_kept<Scalar, Assign>{of});
  }

  /// Room for a call, and for as much again where there is too little.
  status make_room(const matrix_view<const Scalar>& x) {
    return make_room(hip::doubled_room(arrays_.set.token_room, std::int64_t{tokens_} + x.rows), x.cols,
                     hip::doubled_room(arrays_.piece, x.rows));
  }

  /// Other memory, unless these are the sizes of what is there. The set goes along.
  status make_room(index_t tokens, index_t cols, index_t piece) {
    if (tokens == arrays_.set.token_room && cols == arrays_.cols && piece == arrays_.piece) return status::ok;
    hip::device_memory<B> memory(where_);
    arrays                larger;
    if (const status answer = lay_out(tokens, cols, piece, memory, larger); answer != status::ok) return answer;
    const status answer = arrays_.set.state ? copy_set(arrays_, tokens_, larger) : clear_all(larger);
    if (answer != status::ok) return answer;
    set_number_.renew();
    memory_ = std::move(memory), arrays_ = larger;
    return status::ok;
  }

  /// New memory, with what never changes in it.
  status lay_out(index_t tokens, index_t cols, index_t piece, hip::device_memory<B>& memory, arrays& to) const {
    to.set.token_room = std::max(tokens, 1), to.set.room = detail::room(options_, to.set.token_room);
    to.cols = cols, to.piece = std::max(piece, 1);
    if (const status answer = memory.carve([&](carver& from) { to.cut(from); }); answer != status::ok) return answer;
    return number_kept(to);
  }

  status number_kept(const arrays& in) const {
    auto of        = in.call(options_, {}, {});
    of.call.before = {.rep = in.old + in.below_zero()};
    return where_.launch(hip::select::number_kept<Scalar>{of});
  }

  /// Copies the set of `tokens` tokens and the last report, on the stream.
  status copy_set(const arrays& from, index_t tokens, const arrays& to) const {
    status     answer = status::ok;
    const auto copy   = [&](auto* target, const auto* source, std::int64_t count) {
      if (answer == status::ok) answer = where_.copy(target, source, static_cast<std::size_t>(count) * sizeof(*target));
    };
    const index_t places = std::min(tokens, from.set.room);
    copy(to.set.layer.indices, from.set.layer.indices, places);
    copy(to.set.layer.counts, from.set.layer.counts, places);
    copy(to.set.layer.rep, from.set.layer.rep, tokens), copy(to.set.place, from.set.place, tokens);
    copy(to.set.rows, from.set.rows, std::int64_t{places} * from.cols), copy(to.norms, from.norms, places);
    copy(to.set.layer.count, from.set.layer.count, 1), copy(to.set.state, from.set.state, 1);
    copy(to.of_call.counters, from.of_call.counters, 1);
    return answer;
  }

  status clear_set(const arrays& of) const noexcept {
    const status answer = where_.clear(of.set.state, sizeof(*of.set.state));
    return answer == status::ok ? where_.clear(of.set.layer.count, sizeof(index_t)) : answer;
  }

  status clear_all(const arrays& of) const noexcept {
    const status answer = clear_set(of);
    return answer == status::ok ? where_.clear(of.of_call.counters, sizeof(*of.of_call.counters)) : answer;
  }

  /// The device has failed in the middle: what is left is no set. The next call makes memory, and is told why not.
  void lose() noexcept {
    set_number_.renew();
    memory_  = hip::device_memory<B>(where_);
    arrays_  = {};
    tokens_  = 0;
    counted_ = true;
  }

  /// Copies the set of another one, into the memory that is there if it has room.
  status become(const growing_selection& other) {
    const arrays& from = other.arrays_;
    if (!from.set.state) {
      if (arrays_.set.state && clear_all(arrays_) != status::ok) lose();
      return status::ok;
    }
    if (arrays_.set.state && arrays_.cols == from.cols && arrays_.set.token_room >= other.tokens_) {
      status answer = number_kept(arrays_);
      if (answer == status::ok) answer = copy_set(from, other.tokens_, arrays_);
      if (answer != status::ok) lose();
      return answer;
    }
    hip::device_memory<B> memory(where_);
    arrays                to;
    if (const status answer = lay_out(from.set.token_room, from.cols, from.piece, memory, to); answer != status::ok)
      return answer;
    if (const status answer = copy_set(from, other.tokens_, to); answer != status::ok) return answer;
    memory_ = std::move(memory), arrays_ = to;
    return status::ok;
  }

  /// Waits for the stream and copies the last extension's report, which stays as it was where that failed.
  status download(selection_report& to, const hip::select::grown_state& state) const {
    if (!counted_) return to = {}, state.answer;
    status       of_call = status::ok;
    const status answer =
        hip::select::download_report(where_, arrays_.of_call.counters, state.extended, false, to, of_call);
    return answer == status::ok ? state.answer : answer;
  }

  selection_options     options_;
  B                     where_;
  hip::device_memory<B> memory_;
  arrays                arrays_;
  index_t               tokens_  = 0;     // those of calls that failed on the device included
  bool                  counted_ = true;  // whether the last extension has a report: its launches were taken

  detail::set_number<B> set_number_;
};

static_assert(growing_token_selector<growing_selection<bfloat16, hip_gfx942>, bfloat16, hip::selection_layer> &&
              downloadable_selection<growing_selection<bfloat16, hip_gfx942>, hip::downloaded_selection>);

}  // namespace cascada::inline CASCADA_ABI
