#pragma once
// The cascade: a layer inherits its representatives from the layer before, and validates them (arXiv:2605.03110).
//
// The contract; cpu/select/cascade.hpp and hip/select/cascade.hpp keep it.

#include <concepts>

#include "cascada/backend.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

/// Walks one sequence through the layers of a model.
///
/// The first step selects in full. Each later one starts from the set of the layer before and gives, bit for bit, the
/// set that full selection would give. A token keeps its representative at the cost of one Gram operation where that
/// one still covers it; former representatives (r x r) and orphans are compared with earlier representatives. An
/// inherited state can be wrong, stale or random: it can only cost time.
///
/// rep(i) is the inherited representative (or the one that took its place) where it covers i, else as
/// `selection_options::assign` says. Time O(T d + (r + orphans) r d) against O(T r d), memory O(T + r d).
///
/// step(x)         the next layer, x [T, d]: T stays, d may change. Errors are those of select.hpp, and
///                 `invalid_representatives` where T is not that of the layer before
/// kept()          the set of the last layer, as a view that the next call ends; empty before the first
/// report()        counts of the last step
/// inherit(state)  adopts the representatives that `state` (representatives.hpp) shows, as those of the layer before.
///                 The report then has their numbers alone
/// reset()         forgets the state: the next step selects in full
/// fork(to)        makes `to`, which has the same options, an independent copy, for a sequence that branches here: its
///                 set and report. If memory runs out, `to` stays as it was
/// On gfx942, reserve() and download() besides (hip/select/cascade.hpp).
///
/// One object per sequence; movable. One call at a time; const use from several threads is safe, and so are calls of
/// different objects. Workspace is kept: after the first step of a shape nothing is allocated. If memory runs out, or a
/// call is refused, the state stays as it was. A cascade that was moved from is as new, with its options.
template <row_scalar Scalar, backend B = default_backend>
class cascade;

namespace detail {

/// A step of `tokens` tokens behind a layer of so many.
[[nodiscard]] CASCADA_INLINE constexpr status check_step(index_t tokens, index_t before) noexcept {
  return tokens == before
             ? status{status::ok}
             : status{status::invalid_representatives, "x.rows is not the number of tokens of the layer before"};
}

}  // namespace detail

/// What every backend's cascade offers: steps from layer to layer, a state to start from, branches, and the set that it
/// kept, with the report of the last step.
template <class Cascade, class Scalar>
concept token_cascade = std::movable<Cascade> && requires(Cascade walk, const Cascade done, matrix_view<const Scalar> x,
                                                          const representatives& state) {
  { walk.step(x) } -> std::same_as<status>;
  { walk.inherit(state) } -> std::same_as<status>;
  { walk.reset() } -> std::same_as<void>;
  { done.fork(walk) } -> std::same_as<status>;
  { done.report() } -> std::convertible_to<selection_report>;
  { done.kept().tokens() } -> std::same_as<index_t>;
};

}  // namespace cascada::inline CASCADA_ABI
