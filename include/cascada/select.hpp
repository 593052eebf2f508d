#pragma once
// Selection: the representatives of one layer, from nothing (Activation Decorrelation Attention, arXiv:2605.03110).
//
// The contract; selector.hpp and growing.hpp in cpu/select and hip/select keep it.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/backend.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

/// Picks representatives with a Gram threshold.
///
/// selector<float> select({.threshold = 0.8f});
/// select(x)       x [T, d]: the set of its tokens; no tokens are fine. O(T r d). `non_finite_token`: a row has NaN or
///                 Inf, or its square overflows; `too_many_representatives`: more than options.max_representatives;
///                 `invalid_shape` and `too_large`: x is no array; `invalid_threshold`
/// kept()          the set, as a view that the next call ends; empty before the first
/// report()        counts of the last call
/// literal(x)      on the CPU: the same set by way of the whole T x T Gram matrix, the paper's baseline. O(T^2 d) time,
///                 O(T^2) memory; `too_large` where T^2 overflows
/// On gfx942, reserve() and download() besides (hip/select/selector.hpp).
///
/// Scans tokens in order; token i becomes a representative unless an earlier one j has cosine G_ij >= tau. The set is
/// unique: the lexicographically first maximal independent set of the threshold graph. Every token has a
/// representative at or before it with cosine >= tau; representatives are pairwise below tau; the set of the first n
/// tokens is the set of the sequence cut at n.
///
/// Verdicts are bit for bit the same for every backend, instruction set, thread count and block shape, and the same as
/// in `cascade`, whatever rounding, flushing of subnormals or traps the host has turned on: a call works in the usual
/// arithmetic on every thread, and leaves each as it was. A row whose squared norm is below 2^-60 counts as zero: it
/// stands for itself alone.
///
/// Workspace is kept: a second call of the same shape allocates nothing. If memory runs out, or the call is refused,
/// the selection stays as it was. In every class of this library, the host's memory runs out by std::bad_alloc, as
/// operator new throws it (without exceptions, the program ends), a device's by `device_error`. A selector that was
/// moved from is as new, with its options; on the CPU it also copies. One call at a time, which works on all threads of
/// its executor; const use from several threads is safe, and so are calls of different objects.
template <row_scalar Scalar, backend B = default_backend>
class selector;

/// The representatives of one layer, for a sequence that grows: each call takes the next tokens. However it is cut into
/// calls, set and rep are, bit for bit, those of one call: of a full selection where nothing is inherited, of a
/// cascade's step from the layer before where its representatives are given.
///
///   extend(x, below)  x [n, d], the layer's rows of the next n tokens; below [n], the representatives that these
///                     tokens have in the layer before, or empty. O(n r d), and O(r d) even for one token: a piece of
///                     some dozens costs little more. `invalid_representatives` if below names a token after its own;
///                     `invalid_shape` if d is not that of earlier calls; `too_large` beyond 2^31 - 4097 tokens
///   kept(), report()  the set so far, and the counts of the last call
///   bytes()           memory in use beside x: rows of representatives, and some numbers a token
///   truncate(tokens)  forgets the tokens from there on. `invalid_shape` if there are not as many. O(T)
///   clear()           forgets the sequence; memory is kept. O(1)
///   fork(to)          makes `to`, which has the same options, an independent copy, for a sequence that branches here.
///                     If memory runs out, `to` stays as it was
///   save(bytes)       writes the selection to bytes [saved_bytes()], to go on with it later: a number a token and the
///                     rows of representatives, the same on every instruction set
///   load(bytes)       turns to a selection that was saved with the same Scalar, threshold and assign. O(T + r d). The
///                     sets of later calls are, bit for bit, those of the selection that was saved. Bytes that were cut
///                     off or changed are refused; those that someone made up can cost the right set, never more
///
/// Rows of representatives are copied; no other row is needed again. If a call is refused or memory runs out, the
/// selection stays as it was. On the CPU it also copies. On gfx942 it is not saved, and has reserve(), replayed() and
/// download() besides (hip/select/growing.hpp). One call at a time; const use from several threads is safe, and so are
/// calls of different objects.
template <row_scalar Scalar, backend B = default_backend>
class growing_selection;

namespace detail {

/// Rows x, some at least, behind a sequence of `tokens` tokens of `cols` columns.
template <class Scalar>
[[nodiscard]] CASCADA_INLINE constexpr status check_extension(const matrix_view<Scalar>& x, index_t tokens,
                                                              index_t cols) noexcept {
  if (tokens > 0 && x.cols != cols) return {status::invalid_shape, "x.cols differs from that of earlier calls"};
  if (std::int64_t{tokens} + x.rows > largest_size)
    return {status::too_large, "x makes the sequence longer than 2^31 - 4097 tokens"};
  return status::ok;
}

/// What is left of a sequence of `all` tokens.
[[nodiscard]] CASCADA_INLINE constexpr status check_truncation(index_t tokens, index_t all) noexcept {
  if (tokens < 0) return {status::invalid_shape, "tokens is negative"};
  if (tokens > all) return {status::invalid_shape, "tokens is more than the selection has"};
  return status::ok;
}

}  // namespace detail

/// What every backend's selector offers: a call for x [T, d], and the set that it kept, with its report.
template <class Selector, class Scalar>
concept token_selector =
    std::movable<Selector> && requires(Selector select, const Selector done, matrix_view<const Scalar> x) {
      { select(x) } -> std::same_as<status>;
      { done.report() } -> std::convertible_to<selection_report>;
      { done.kept().tokens() } -> std::same_as<index_t>;
    };

/// What every backend's selection that grows offers. `Below`: how the representatives of the layer below are given.
template <class Growing, class Scalar, class Below>
concept growing_token_selector =
    std::movable<Growing> &&
    requires(Growing grow, const Growing done, matrix_view<const Scalar> x, const Below& below, index_t tokens) {
      { grow.extend(x) } -> std::same_as<status>;
      { grow.extend(x, below) } -> std::same_as<status>;
      { grow.truncate(tokens) } -> std::same_as<status>;
      { grow.clear() } -> std::same_as<void>;
      { done.fork(grow) } -> std::same_as<status>;
      { done.bytes() } -> std::same_as<std::size_t>;
      { done.report() } -> std::convertible_to<selection_report>;
      { done.kept().tokens() } -> std::same_as<index_t>;
    };

/// What those of the CPU offer besides: copies, which are independent, and bytes to go on from.
template <class Growing>
concept saved_selection = std::copyable<Growing> && requires(Growing grow, const Growing done, std::span<std::byte> to,
                                                             std::span<const std::byte> from) {
  { grow.load(from) } -> std::same_as<status>;
  { done.saved_bytes() } -> std::same_as<std::size_t>;
  { done.save(to) } -> std::same_as<status>;
};

/// What selections of any kind offer on a device: what the stream has done, on the host.
template <class Selection, class OnHost>
concept downloadable_selection = requires(const Selection done, OnHost& to) {
  { done.download(to) } -> std::same_as<status>;
};

}  // namespace cascada::inline CASCADA_ABI
