#pragma once
// selector on the CPU: the class of select.hpp.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "cascada/cpu/select/literal.hpp"
#include "cascada/cpu/select/owner.hpp"
#include "cascada/cpu/select/walk.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

/// As select.hpp says. O(T r d) time; memory O(T + r d) with the workspace.
template <row_scalar Scalar, cpu_backend B>
class selector<Scalar, B> {
 public:
  explicit selector(selection_options options = {}, B where = {}) : own_(options, where) {}

  selector(const selector&)     = default;
  selector(selector&&) noexcept = default;
  selector& operator=(selector other) noexcept {
    own_ = std::move(other.own_), all_ = std::move(other.all_), gram_ = std::move(other.gram_);
    return *this;
  }

  /// Full selection of x [T, d]. O(T r d) time, O(T + r d) memory; never forms a T x T matrix.
  [[nodiscard]] status operator()(matrix_view<const Scalar> x) {
    if (const status answer = detail::check(x, own_.options); answer != status::ok) return answer;
    return own_.replace(x, false, false,
                        [&](auto& call) { return kernel::select::select_all(call, own_.memory.products); });
  }

  /// The same set and rep by way of the whole T x T Gram matrix: the paper's baseline. O(T^2 d) time, O(T^2) memory.
  [[nodiscard]] status literal(matrix_view<const Scalar> x) {
    if (const status answer = detail::check(x, own_.options); answer != status::ok) return answer;
    if (std::int64_t{x.rows} * x.rows > std::numeric_limits<std::ptrdiff_t>::max() / std::int64_t{sizeof(float)})
      return {status::too_large, "x.rows times x.rows overflows"};
    const status answer = own_.replace(x, false, false, [&](auto& call) {
      all_.reserve(x.rows, x.cols);
      gram_.reserve(std::int64_t{x.rows} * x.rows);
      return kernel::select::select_literal(call, own_.memory.products, all_, gram_.data());
    });
    if (answer == status::ok) own_.report.gram = {.selection = full_gram_operations(x.rows)};
    return answer;
  }

  /// The last selection; empty before the first. Valid until the next call.
  [[nodiscard]] representatives kept() const noexcept { return own_.kept.view(own_.number.stamp()); }

  [[nodiscard]] const selection_report& report() const noexcept { return own_.report; }

 private:
  kernel::select::selection_owner<B>                own_;
  kernel::call_memory<kernel::gram::packed_rows<B>> all_;   // literal only
  kernel::call_memory<kernel::buffer<float, B>>     gram_;  // literal only
};

static_assert(token_selector<selector<float, default_backend>, float>);

}  // namespace cascada::inline CASCADA_ABI
