#pragma once
// A call, a selection or a step of the cascade: what it is asked, and what it has decided so far.
//
// Tokens are walked in stretches (stretch.hpp). A stretch is compared with the representatives so far in parallel
// (scan.hpp); what is left of it is resolved in token order, block by block (block.hpp, resolve.hpp).

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cascada/cpu/base/float_environment.hpp"
#include "cascada/cpu/gram/norms.hpp"
#include "cascada/cpu/select/count.hpp"
#include "cascada/cpu/select/match.hpp"
#include "cascada/cpu/select/memory.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/selection_report.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// Pairs that kernels compared, and those of them that an estimate had left open.
template <cpu_backend B>
struct compared_pairs {
  std::int64_t evaluated = 0, rechecked = 0;

  CASCADA_INLINE void add(const compared_pairs<B>& more) noexcept {
    evaluated += more.evaluated;
    rechecked += more.rechecked;
  }
};

/// One call. Who has it as const reads the set so far and judges pairs; who adds to the set, settles a token or counts
/// has it as not const.
template <row_scalar Scalar, cpu_backend B>
class selection_call {
 public:
  /// `inherited` [T]: the representatives that tokens had in the layer before; null: none. The set grows in `memory`,
  /// which has room for x and for `most` representatives.
  selection_call(matrix_view<const Scalar> x, const index_t* inherited, index_t most, const selection_options& asked,
                 const B& backend, selection_memory<B>& memory) noexcept
      : options(asked),
        where(backend),
        old_rep(inherited),
        rows{x, memory.norms.data(), memory.scaled_norms.data(), sum_margin<B>(x.cols)},
        limit_(most),
        now_(memory.now),
        norms_(memory.norms.data()),
        scaled_norms_(memory.scaled_norms.data()) {
    now_.tokens = x.rows, now_.count = 0;
  }

  const selection_options& options;
  const B&                 where;
  const index_t* const     old_rep;
  const gram_rows<Scalar>  rows;   // with norms, as far as they are taken
  compared_pairs<B>        pairs;  // so far

  CASCADA_INLINE index_t tokens() const noexcept { return rows.x.rows; }

  /// The set so far.
  CASCADA_INLINE const selection_state<B>& now() const noexcept { return now_; }

  /// How many tokens have norms.
  CASCADA_INLINE index_t normed() const noexcept { return normed_; }

  /// Norms of the tokens before `last`; `non_finite_token` if some token has none.
  status take_norms(index_t last) {
    if (normed_ < last) beside_norms(last, [] {});
    return finite_ ? status(status::ok) : why_no_norm<B>(rows.x);
  }

  /// Does a task on one thread while others take the norms of the tokens before `last`.
  template <class Task>
  void beside_norms(index_t last, const Task& task) {
    constexpr index_t share = 32;  // tokens of a task: many times what it costs to start
    const index_t     first = normed_;
    std::atomic<bool> good{finite_};
    normed_ = std::max(first, last);
    parallel_for<B>(where.executor, 1 + (normed_ - first + share - 1) / share, [&](index_t s) {
      if (s == 0) return task();
      const index_t to = std::min(normed_, first + s * share), from = first + (s - 1) * share;
      if (!compute_norms<B>(rows.x, options.threshold, from, to, norms_, scaled_norms_))
        good.store(false, std::memory_order_relaxed);
    });
    finite_ = good.load();
  }

  /// Whether no further representative can replace `best`.
  CASCADA_INLINE bool settled(const match<B>& best) const noexcept {
    return best.position >= 0 && options.assign == assignment::lowest_index;
  }

  /// A covering representative replaces `best` if it is the first one found, or under `nearest` if its cosine is larger
  /// (ties to the lower index, which is met first).
  void improve(index_t i, index_t position, pair_value<B> value, match<B>& best) const noexcept {
    if (best.position < 0 ||
        (options.assign == assignment::nearest &&
         nearer<B>(rows, i, now_.indices[position], value, now_.indices[best.position], best.value)))
      best = {position, value};
  }

  /// The verdict on token i and the representative at a position, from their product if it is canonical, else asked of
  /// the pair unless it is `sure`.
  template <bool Canonical>
  void judge(index_t i, index_t position, float product, bool sure, match<B>& best,
             compared_pairs<B>& counts) const noexcept {
    pair_value<B> value{product, true};
    if constexpr (Canonical) {
      if (!detail::covers(product, rows.scaled_norms[i], rows.norms[now_.indices[position]])) return;
    } else if (!sure || options.assign == assignment::nearest) {
      ++counts.evaluated, ++counts.rechecked;
      if (!pair_covers<B>(rows, i, now_.indices[position], value)) return;
    }
    improve(i, position, value, best);
  }

  /// A representative stands for token i.
  CASCADA_INLINE void represent(index_t i, index_t rep) noexcept { now_.rep[i] = rep; }

  /// Makes token i stand for itself. False where the limit is reached.
  bool add(index_t i) noexcept {
    if (now_.count == limit_) return false;
    now_.indices[now_.count++] = i;
    represent(i, i);
    return true;
  }

  /// Gives token i the representative found, or makes it one.
  status settle(index_t i, const match<B>& best) noexcept {
    if (best.position < 0) return add(i) ? status::ok : status::too_many_representatives;
    represent(i, now_.indices[best.position]);
    return status::ok;
  }

  /// What the call did with the tokens behind the first `known`. `cross`: in paper mode. `position` [T] gets the
  /// position in R of each representative; `additions` [T] is scratch.
  selection_report report(bool cross, index_t* position, index_t* additions, index_t known = 0) const noexcept {
    selection_report all = count_call<B>(now_.view(), old_rep, options.assign, cross, position, additions, known);
    all.pairs_evaluated = pairs.evaluated, all.pairs_rechecked = pairs.rechecked;
    return all;
  }

  /// Counts the tokens of each representative, whose position in R is at hand.
  void count_tokens(const index_t* position) noexcept {
    std::fill_n(now_.counts.data(), now_.count, 0);
    for (index_t i = 0; i < now_.tokens; ++i) ++now_.counts[position[now_.rep[i]]];
  }

 private:
  index_t             limit_;  // of representatives
  selection_state<B>& now_;
  float*              norms_;
  float*              scaled_norms_;
  index_t             normed_ = 0;
  bool                finite_ = true;  // whether all of these have one
};

}  // namespace cascada::inline CASCADA_ABI::kernel::select
