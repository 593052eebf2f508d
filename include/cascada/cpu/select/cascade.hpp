#pragma once
// cascade on the CPU: the class of cascade.hpp.

#include "cascada/cascade.hpp"
#include "cascada/cpu/select/cross_gram.hpp"
#include "cascada/cpu/select/owner.hpp"
#include "cascada/cpu/select/walk.hpp"

namespace cascada::inline CASCADA_ABI {

/// As cascade.hpp says.
template <row_scalar Scalar, cpu_backend B>
class cascade<Scalar, B> {
 public:
  explicit cascade(selection_options options = {}, B where = {}) : own_(options, where) {}

  cascade(cascade&&) noexcept            = default;
  cascade& operator=(cascade&&) noexcept = default;

  /// Next layer, x [T, d] (d may change from layer to layer). `invalid_representatives` if T is not that of the layer
  /// before.
  [[nodiscard]] status step(matrix_view<const Scalar> x) {
    if (const status answer = detail::check(x, own_.options); answer != status::ok) return answer;
    if (own_.chosen)
      if (const status answer = detail::check_step(x.rows, own_.kept.tokens); answer != status::ok) return answer;
    const bool paper = own_.options.validate == validation::cross_gram, cross = own_.chosen && paper;
    return own_.replace(x, own_.chosen, cross, [&](auto& call) {
      if (paper) cross_.reserve(call.tokens(), call.rows.x.cols);
      return cross ? kernel::select::cascade_cross_gram(call, own_.memory.products, cross_, own_.kept.view())
                   : kernel::select::select_all(call, own_.memory.products);
    });
  }

  /// Adopts `state` as the set of the layer before; copies it. It may be a view of this object's own. O(T) as check().
  [[nodiscard]] status inherit(const representatives& state) {
    if (const status answer = check(state, state.tokens()); answer != status::ok) return answer;
    own_.copy(state);
    return status::ok;
  }

  /// Forgets the state: the next step selects in full.
  void reset() noexcept { own_.reset(); }

  /// Makes `to` an independent copy. O(T).
  [[nodiscard]] status fork(cascade& to) const {
    if (&to == this) return status::ok;
    if (own_.chosen)
      to.own_.copy(own_.kept.view());
    else
      to.reset();
    to.own_.report = own_.report;
    return status::ok;
  }

  /// The set of the last step (or what was adopted since). Valid until the next call that changes it.
  [[nodiscard]] representatives kept() const noexcept { return own_.kept.view(own_.number.stamp()); }

  [[nodiscard]] const selection_report& report() const noexcept { return own_.report; }

 private:
  kernel::select::selection_owner<B>      own_;
  kernel::select::cross_gram_workspace<B> cross_;
};

static_assert(token_cascade<cascade<float, default_backend>, float>);

}  // namespace cascada::inline CASCADA_ABI
