#pragma once
// cascade on the CPU: the class of cascade.hpp.

#include <utility>

#include "cascada/cascade.hpp"
#include "cascada/cpu/select/cross_gram.hpp"
#include "cascada/cpu/select/walk.hpp"

namespace cascada::inline CASCADA_ABI {

/// As cascade.hpp says.
template <row_scalar Scalar, cpu_backend B>
class cascade<Scalar, B> {
 public:
  explicit cascade(selection_options options = {}, B where = {}) : options_(options), where_(where) {}

  /// Next layer, x [T, d] (d may change from layer to layer). `invalid_representatives` if T is not that of the layer
  /// before.
  [[nodiscard]] status step(matrix_view<const Scalar> x) {
    if (const status answer = detail::check(x, options_); answer != status::ok) return answer;
    if (started_ && kept_.tokens != x.rows)
      return {status::invalid_representatives, "x.rows is not the number of tokens of the layer before"};
    if (x.rows == 0) x = {.cols = 1, .stride = 1};  // whatever they were
    reserve(x);
    const representatives              before = kept_.view();
    const kernel::float_environment<B> usual;
    pass_.start(x, started_ ? before.rep.data() : nullptr);
    if (const status answer = select(before); answer != status::ok) return answer;
    report_ = pass_.finish(started_ ? &before : nullptr);
    std::swap(pass_.now, kept_);
    started_ = true;
    return status::ok;
  }

  /// Adopts `state` as the set of the layer before; copies it. It may be a view of this object's own. O(T) as check().
  [[nodiscard]] status inherit(const representatives& state) {
    if (const status answer = check(state, state.tokens()); answer != status::ok) return answer;
    pass_.now.assign(state);
    kept_.grow(state.tokens(), state.tokens());  // for the next one, which then allocates nothing
    std::swap(pass_.now, kept_);
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

  cascade(cascade&& other) noexcept
      : options_(other.options_),
        where_(other.where_),
        pass_(std::move(other.pass_)),
        kept_(std::move(other.kept_)),
        cross_(std::move(other.cross_)),
        report_(std::exchange(other.report_, {})),
        started_(std::exchange(other.started_, false)) {}
  cascade& operator=(cascade other) noexcept {
    options_ = other.options_, where_ = other.where_;
    pass_ = std::move(other.pass_), kept_ = std::move(other.kept_), cross_ = std::move(other.cross_);
    report_ = other.report_, started_ = other.started_;
    return *this;
  }

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
  selection_report                  report_  = {};
  bool                              started_ = false;
};

static_assert(token_cascade<cascade<float, default_backend>, float>);

}  // namespace cascada::inline CASCADA_ABI
