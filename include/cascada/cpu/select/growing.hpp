#pragma once
// growing_selection on the CPU: the class of select.hpp.
//
// New tokens are selected behind the representatives so far, as if those were the whole sequence: other tokens cover
// nothing. Inside a call, tokens are numbered by these rows: representatives first, then the new ones.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "cascada/cpu/base/saved_state.hpp"
#include "cascada/cpu/select/walk.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

/// As select.hpp says.
template <row_scalar Scalar, cpu_backend B>
class growing_selection<Scalar, B> {
 public:
  explicit growing_selection(selection_options options = {}, B where = {}) : options_(options), where_(where) {}

  growing_selection(growing_selection&&) noexcept            = default;
  growing_selection& operator=(growing_selection&&) noexcept = default;
  /// O(T + r d) time and memory: rows of representatives, not of the tokens that calls had.
  growing_selection(const growing_selection& other)
      : options_(other.options_),
        where_(other.where_),
        kept_(other.kept_),
        set_number_(other.set_number_),
        position_(other.position_),
        cols_(other.cols_),
        room_(other.kept_.count),
        report_(other.report_) {
    const std::int64_t elements = std::int64_t{room_} * cols_;
    rows_.reserve(elements);
    if (elements > 0) std::copy_n(other.rows_.data(), elements, rows_.data());
  }
  growing_selection& operator=(const growing_selection& other) {
    *this = growing_selection(other);
    return *this;
  }

  [[nodiscard]] status extend(matrix_view<const Scalar> x, std::span<const index_t> below = {}) {
    if (const status answer = check(x, below); answer != status::ok) return answer;
    if (x.rows == 0) return report_ = {.tokens = kept_.tokens, .representatives = kept_.count}, status::ok;
    const index_t known = kept_.count, before = kept_.tokens, places = known + x.rows;
    reserve(x);
    for (index_t i = 0; i < x.rows; ++i) std::copy_n(x.row(i), x.cols, row(known + i));
    for (index_t i = 0; i < known; ++i) below_[i] = i;
    for (std::size_t i = 0; i < below.size(); ++i) below_[known + static_cast<index_t>(i)] = place_of(below[i]);

    const kernel::float_environment<B>        usual;
    kernel::select::selection_call<Scalar, B> call({rows_.data(), places, x.cols, x.cols},
                                                   below.empty() ? nullptr : below_.data(),
                                                   detail::room(options_, before + x.rows), options_, where_, memory_);
    for (index_t i = 0; i < known; ++i) call.add(i);
    if (const status answer = call.take_norms(known); answer != status::ok) return answer;
    if (const status answer = kernel::select::select_all(call, memory_.products, known); answer != status::ok)
      return answer;
    report_        = call.report(false, memory_.position.data(), memory_.additions.data(), known);
    report_.tokens = before + x.rows;
    adopt(x.rows, x.cols);
    return status::ok;
  }

  [[nodiscard]] status truncate(index_t tokens) noexcept {
    if (const status answer = detail::check_truncation(tokens, kept_.tokens); answer != status::ok) return answer;
    for (index_t t = tokens; t < kept_.tokens; ++t) --kept_.counts[position_[kept_.rep[t]]];
    if (tokens < kept_.tokens) set_number_.renew();
    kept_.tokens = tokens;
    while (kept_.count > 0 && kept_.indices[kept_.count - 1] >= tokens) --kept_.count;
    return status::ok;
  }

  /// Makes `to` an independent copy, which goes on with its own executor. O(T + r d).
  [[nodiscard]] status fork(growing_selection& to) const {
    if (&to == this) return status::ok;
    growing_selection copy(*this);
    copy.where_ = to.where_;
    to          = std::move(copy);
    return status::ok;
  }

  /// Forgets the sequence; memory is kept.
  void clear() noexcept {
    set_number_.renew();
    kept_.tokens = kept_.count = 0;
  }

  /// Of what save() writes: a number a token, and the rows of representatives.
  [[nodiscard]] std::size_t saved_bytes() const noexcept { return kernel::state_writer<B>::size_of(*this); }

  /// The selection as bytes [saved_bytes()].
  [[nodiscard]] status save(std::span<std::byte> bytes) const noexcept {
    return kernel::state_writer<B>::save(*this, kernel::saved_kind::selection, kernel::saved_rows<Scalar>, bytes);
  }

  /// Turns to the selection that was saved as `bytes`.
  [[nodiscard]] status load(std::span<const std::byte> bytes) {
    kernel::state_reader<B> from(bytes);
    const status            answer = from.open(kernel::saved_kind::selection, kernel::saved_rows<Scalar>);
    return answer == status::ok ? take(from) : answer;
  }

  /// The set so far. Valid until the next call that changes it.
  [[nodiscard]] representatives kept() const noexcept { return kept_.view(set_number_.stamp()); }

  /// Of the last extension: Gram operations, additions and removals of its tokens; tokens and representatives in all.
  [[nodiscard]] const selection_report& report() const noexcept { return report_; }

  /// Memory that the sequence uses: rows of representatives, two numbers for each of them, and two a token.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(kept_.count) * static_cast<std::size_t>(cols_) * sizeof(Scalar) +
           static_cast<std::size_t>(kept_.tokens + kept_.count) * 2 * sizeof(index_t);
  }

 private:
  friend class kernel::state_writer<B>;

  Scalar* row(index_t place) noexcept { return rows_.data() + std::int64_t{place} * cols_; }

  /// Where the row lies that stands for a token of the layer before, among those of this call: its own if it is new,
  /// else that of its representative here.
  index_t place_of(index_t token) const noexcept {
    return token < kept_.tokens ? position_[kept_.rep[token]] : kept_.count + token - kept_.tokens;
  }

  status check(matrix_view<const Scalar> x, std::span<const index_t> below) const noexcept {
    if (const status answer = detail::check(x, options_); answer != status::ok) return answer;
    if (x.rows == 0) return status::ok;
    if (const status answer = detail::check_extension(x, kept_.tokens, cols_); answer != status::ok) return answer;
    if (below.empty()) return status::ok;
    if (below.size() != static_cast<std::size_t>(x.rows))
      return detail::illegal("below has not one entry for each row of x");
    for (std::size_t i = 0; i < below.size(); ++i) {
      if (below[i] < 0) return detail::illegal("below has a negative entry");
      if (below[i] > kept_.tokens + static_cast<index_t>(i))
        return detail::illegal("below names a token after the one it stands for");
    }
    return status::ok;
  }

  /// Room for a call; everything stays.
  void reserve(matrix_view<const Scalar> x) {
    const index_t      T = kept_.tokens + x.rows, places = kept_.count + x.rows;
    const std::int64_t room = places > room_ ? std::max(places, kernel::half_more(room_)) : room_;
    if (kept_.tokens == 0) cols_ = x.cols;
    rows_.grow(room * cols_, std::int64_t{kept_.count} * cols_);
    below_.reserve(room);
    memory_.reserve(static_cast<index_t>(room), x.cols, detail::room(options_, static_cast<index_t>(room)));
    if (T > kept_.rep.capacity()) kept_.grow(kernel::half_more(T), kernel::half_more(T)), set_number_.renew();
    position_.grow(kept_.rep.capacity(), kept_.tokens);
    room_ = static_cast<index_t>(room);
  }

  /// Takes in the result of the call: sets that grew at their ends.
  void adopt(index_t count, index_t cols) noexcept {
    const index_t known = kept_.count, before = kept_.tokens;
    for (index_t m = known; m < memory_.now.count; ++m) {
      const index_t place = memory_.now.indices[m], token = before + place - known;
      if (place != m) std::copy_n(row(place), cols, row(m));
      kept_.indices[m] = token, kept_.counts[m] = 0;
      position_[token] = m;
    }
    for (index_t i = 0; i < count; ++i) {
      const index_t rep     = memory_.now.rep[known + i];
      const index_t token   = rep < known ? kept_.indices[rep] : before + rep - known;
      kept_.rep[before + i] = token;
      ++kept_.counts[position_[token]];
    }
    kept_.tokens = before + count, kept_.count = memory_.now.count;
    set_number_.renew();
  }

  /// Options that the set depends on, T, r, d; rep [T]; rows [r, d].
  void put(kernel::state_writer<B>& to) const noexcept {
    to.put(options_.threshold), to.put(options_.assign);
    to.put(kept_.tokens), to.put(kept_.count), to.put(cols_);
    to.put(kept_.rep.data(), kept_.tokens);
    to.put(rows_.data(), std::int64_t{kept_.count} * cols_);
  }

  /// What put() wrote, or anything else. There is memory for no more than there are bytes.
  status take(kernel::state_reader<B>& from) {
    index_t tokens = 0, count = 0, cols = 0;
    if (!from.matches(options_.threshold) || !from.matches(options_.assign))
      return {status::unsupported, "bytes is a selection with another threshold or assign"};
    if (!from.take(tokens) || !from.take(count) || !from.take(cols) || !from.template holds<index_t>(tokens))
      return kernel::sizes_differ();
    if (tokens > detail::largest_size || cols > detail::largest_size || count > tokens || (tokens > 0 && cols < 1))
      return kernel::sizes_differ();
    if (count > detail::room(options_, tokens)) return status::too_many_representatives;

    kernel::select::selection_state<B> kept;
    kernel::buffer<index_t, B>         position;
    kernel::buffer<Scalar, B>          rows;
    kept.reserve(tokens, tokens), position.reserve(tokens);
    from.take(kept.rep.data(), tokens);
    const std::int64_t elements = std::int64_t{count} * cols;
    if (!from.template holds<Scalar>(elements)) return kernel::sizes_differ();
    rows.reserve(elements);
    from.take(rows.data(), elements);
    if (!from.done()) return kernel::sizes_differ();

    for (index_t& i = kept.tokens; i < tokens; ++i) {
      const index_t rep = kept.rep[i];
      if (rep < 0 || rep > i || kept.rep[rep] != rep)
        return detail::illegal("bytes has a token whose representative does not stand for itself");
      if (rep == i) kept.indices[kept.count] = i, kept.counts[kept.count] = 0, position[i] = kept.count;
      kept.count += rep == i;
      ++kept.counts[position[rep]];
    }
    if (kept.count != count) return detail::illegal("bytes has not one row for each representative");
    const kernel::float_environment<B> usual;
    for (index_t m = 0; m < count; ++m) {
      const Scalar* const own = rows.data() + std::int64_t{m} * cols;
      if (!detail::is_finite(kernel::canonical_product<B>(own, own, cols)))
        return {status::non_finite_token, "bytes has a row with NaN or Inf, or whose squared norm overflows"};
    }
    kept_ = std::move(kept), position_ = std::move(position), rows_ = std::move(rows);
    set_number_.renew();
    cols_   = cols;
    room_   = count;
    report_ = {.tokens = tokens, .representatives = count};
    return status::ok;
  }

  selection_options                   options_;
  B                                   where_;
  kernel::select::selection_memory<B> memory_;
  kernel::select::selection_state<B>  kept_;
  detail::set_number<B>               set_number_;
  kernel::buffer<index_t, B>          position_;  // [T]: position in R of each representative
  kernel::buffer<Scalar, B>           rows_;      // [room, d]: of representatives, then of the call's tokens
  kernel::buffer<index_t, B>          below_;     // [room]: what the rows inherit, as places
  index_t                             cols_ = 0, room_ = 0;
  selection_report                    report_ = {};
};

static_assert(growing_token_selector<growing_selection<float, default_backend>, float, std::span<const index_t>> &&
              saved_selection<growing_selection<float, default_backend>>);

}  // namespace cascada::inline CASCADA_ABI
