#pragma once
// The cascade: a layer inherits its representatives from the layer before, and validates them (arXiv:2605.03110).

#include <utility>

#include "cascada/backend.hpp"
#include "cascada/cpu/cascade.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

template <row_scalar Scalar, backend B = default_backend>
class cascade;

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
/// One object per sequence; movable; const use from several threads is safe. Workspace is kept: after the first step of
/// a shape nothing is allocated.
template <row_scalar Scalar, cpu_backend B>
class cascade<Scalar, B> {
 public:
  explicit cascade(selection_options options = {}, B where = {}) : options_(options), where_(where) {}

  /// Next layer, x [T, d] (d may change from layer to layer). `invalid_representatives` if T is not that of the layer
  /// before. On any error the state stays as it was.
  [[nodiscard]] status step(matrix_view<const Scalar> x) {
    if (const status answer = detail::check(x, options_); answer != status::ok) return answer;
    if (started_ && kept_.tokens != x.rows) return status::invalid_representatives;
    reserve(x);
    const representatives before = kept_.view();
    pass_.start(x, started_ ? before.rep.data() : nullptr);
    if (const status answer = select(before); answer != status::ok) return answer;
    report_ = pass_.finish(started_ ? &before : nullptr);
    std::swap(pass_.now, kept_);
    started_ = true;
    return status::ok;
  }

  /// Adopts `state` as the set of the layer before; copies it.
  [[nodiscard]] status inherit(const representatives& state) {
    if (const status answer = check(state, state.tokens()); answer != status::ok) return answer;
    kept_.assign(state);
    started_ = true;
    return status::ok;
  }

  /// Forgets the state: the next step selects in full.
  void reset() noexcept {
    kept_.tokens = kept_.count = 0;
    started_                   = false;
    report_                    = {};
  }

  /// An independent copy, for a sequence that branches here.
  [[nodiscard]] cascade fork() const {
    cascade copy(options_, where_);
    copy.kept_    = kept_;
    copy.report_  = report_;
    copy.started_ = started_;
    return copy;
  }

  cascade(cascade&&) noexcept            = default;
  cascade& operator=(cascade&&) noexcept = default;

  /// The set of the last step (or what was adopted since). Valid until the next call that changes it.
  [[nodiscard]] representatives kept() const noexcept { return kept_.view(); }

  [[nodiscard]] const selection_report& report() const noexcept { return report_; }

 private:
  void reserve(matrix_view<const Scalar> x) {
    pass_.reserve(x.rows, x.cols, options_, where_);
    if (!started_) kept_.reserve(x.rows, pass_.limit);
    if (options_.validate == validation::cross_gram) cross_.reserve(x.rows, x.cols);
  }

  status select(const representatives& before) {
    if (!started_ || options_.validate == validation::exact) return kernel::select_all(pass_);
    return kernel::cascade_cross_gram(pass_, cross_, before);
  }

  selection_options                 options_;
  B                                 where_;
  kernel::selection_pass<Scalar, B> pass_;
  kernel::selection_state<B>        kept_;
  kernel::cross_gram_workspace<B>   cross_;
  selection_report                  report_ = {};
  bool                              started_ = false;
};

}  // namespace cascada::inline CASCADA_ABI
