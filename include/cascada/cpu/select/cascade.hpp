#pragma once
// cascade on the CPU: the class of cascade.hpp.

#include <cstdint>
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
    if (started_)
      if (const status answer = detail::check_step(x.rows, kept_.tokens); answer != status::ok) return answer;
    if (x.rows == 0) x = {.cols = 1, .stride = 1};  // whatever they were
    const index_t limit = detail::room(options_, x.rows);
    reserve(x, limit);
    const representatives                     before = kept_.view();
    const bool                                cross  = started_ && options_.validate == validation::cross_gram;
    const kernel::float_environment<B>        usual;
    kernel::select::selection_call<Scalar, B> call(x, started_ ? before.rep.data() : nullptr, limit, options_, where_,
                                                   memory_);
    const status answer = cross ? kernel::select::cascade_cross_gram(call, memory_.products, cross_, before)
                                : kernel::select::select_all(call, memory_.products);
    if (answer != status::ok) return answer;
    report_ = call.report(cross, memory_.position.data(), memory_.additions.data());
    if (started_) detail::count_step(before.count(), cross, report_);
    call.count_tokens(memory_.position.data());
    std::swap(memory_.now, kept_);
    number_.renew();
    started_ = true;
    return status::ok;
  }

  /// Adopts `state` as the set of the layer before; copies it. It may be a view of this object's own. O(T) as check().
  [[nodiscard]] status inherit(const representatives& state) {
    if (const status answer = check(state, state.tokens()); answer != status::ok) return answer;
    memory_.now.assign(state);
    kept_.grow(state.tokens(), state.tokens());  // for the next one, which then allocates nothing
    std::swap(memory_.now, kept_);
    number_.renew();
    started_ = true;
    return status::ok;
  }

  /// Forgets the state: the next step selects in full.
  void reset() noexcept {
    kept_.tokens = kept_.count = 0;
    number_.renew();
    started_ = false;
    report_  = {};
  }

  /// An independent copy, for a sequence that branches here.
  [[nodiscard]] cascade fork() const {
    cascade copy(options_, where_);
    copy.kept_    = kept_;
    copy.number_  = number_;
    copy.report_  = report_;
    copy.started_ = started_;
    return copy;
  }

  cascade(cascade&& other) noexcept
      : options_(other.options_),
        where_(other.where_),
        memory_(std::move(other.memory_)),
        kept_(std::move(other.kept_)),
        number_(std::move(other.number_)),
        cross_(std::move(other.cross_)),
        report_(std::exchange(other.report_, {})),
        started_(std::exchange(other.started_, false)) {}
  cascade& operator=(cascade other) noexcept {
    options_ = other.options_, where_ = other.where_;
    memory_ = std::move(other.memory_), kept_ = std::move(other.kept_), cross_ = std::move(other.cross_);
    number_  = std::move(other.number_);
    report_  = other.report_;
    started_ = other.started_;
    return *this;
  }

  /// The set of the last step (or what was adopted since). Valid until the next call that changes it.
  [[nodiscard]] representatives kept() const noexcept { return kept_.view(number_.stamp()); }

  [[nodiscard]] const selection_report& report() const noexcept { return report_; }

 private:
  void reserve(matrix_view<const Scalar> x, index_t limit) {
    memory_.reserve(x.rows, x.cols, limit);
    if (!started_) kept_.reserve(x.rows, limit);
    if (options_.validate == validation::cross_gram) cross_.reserve(x.rows, x.cols);
  }

  selection_options                       options_;
  B                                       where_;
  kernel::select::selection_memory<B>     memory_;
  kernel::select::selection_state<B>      kept_;
  detail::set_number<B>                   number_;
  kernel::select::cross_gram_workspace<B> cross_;
  selection_report                        report_  = {};
  bool                                    started_ = false;
};

static_assert(token_cascade<cascade<float, default_backend>, float>);

}  // namespace cascada::inline CASCADA_ABI
