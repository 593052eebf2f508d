#pragma once
// selector on the CPU: the class of select.hpp.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "cascada/cpu/select/literal.hpp"
#include "cascada/cpu/select/walk.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

/// As select.hpp says. O(T r d) time; memory O(T + r d) with the workspace.
template <row_scalar Scalar, cpu_backend B>
class selector<Scalar, B> {
 public:
  explicit selector(selection_options options = {}, B where = {}) : options_(options), where_(where) {}

  selector(const selector&) = default;
  selector(selector&& other) noexcept
      : options_(other.options_),
        where_(other.where_),
        memory_(std::move(other.memory_)),
        kept_(std::move(other.kept_)),
        number_(std::move(other.number_)),
        all_(std::move(other.all_)),
        gram_(std::move(other.gram_)),
        report_(std::exchange(other.report_, {})) {}
  selector& operator=(selector other) noexcept {
    options_ = other.options_, where_ = other.where_;
    memory_ = std::move(other.memory_), kept_ = std::move(other.kept_), number_ = std::move(other.number_);
    all_ = std::move(other.all_), gram_ = std::move(other.gram_);
    report_ = other.report_;
    return *this;
  }

  /// Full selection of x [T, d]. O(T r d) time, O(T + r d) memory; never forms a T x T matrix.
  [[nodiscard]] status operator()(matrix_view<const Scalar> x) {
    return run(x, [&](auto& call) { return kernel::select::select_all(call, memory_.products); });
  }

  /// The same set and rep by way of the whole T x T Gram matrix: the paper's baseline. O(T^2 d) time, O(T^2) memory.
  [[nodiscard]] status literal(matrix_view<const Scalar> x) {
    if (const status answer = detail::check(x, options_); answer != status::ok) return answer;
    if (std::int64_t{x.rows} * x.rows > std::numeric_limits<std::ptrdiff_t>::max() / std::int64_t{sizeof(float)})
      return {status::too_large, "x.rows times x.rows overflows"};
    const status answer = run(x, [&](auto& call) {
      all_.reserve(x.rows, x.cols);
      gram_.reserve(std::int64_t{x.rows} * x.rows);
      return kernel::select::select_literal(call, memory_.products, all_, gram_.data());
    });
    if (answer == status::ok) report_.gram = {.selection = full_gram_operations(x.rows)};
    return answer;
  }

  /// The last selection; empty before the first. Valid until the next call.
  [[nodiscard]] representatives kept() const noexcept { return kept_.view(number_.stamp()); }

  [[nodiscard]] const selection_report& report() const noexcept { return report_; }

 private:
  template <class Select>
  status run(matrix_view<const Scalar> x, Select select) {
    if (const status answer = detail::check(x, options_); answer != status::ok) return answer;
    if (x.rows == 0) x = {.cols = 1, .stride = 1};  // whatever they were
    const index_t limit = detail::room(options_, x.rows);
    memory_.reserve(x.rows, x.cols, limit);
    number_.renew();
    kept_.grow(x.rows, limit);  // for the next call, which then allocates nothing
    const kernel::float_environment<B>        usual;
    kernel::select::selection_call<Scalar, B> call(x, nullptr, limit, options_, where_, memory_);
    if (const status answer = select(call); answer != status::ok) return answer;
    report_ = call.report(false, memory_.position.data(), memory_.additions.data());
    call.count_tokens(memory_.position.data());
    std::swap(memory_.now, kept_);
    return status::ok;
  }

  selection_options                   options_;
  B                                   where_;
  kernel::select::selection_memory<B> memory_;
  kernel::select::selection_state<B>  kept_;
  detail::set_number<B>               number_;
  kernel::gram::packed_rows<B>        all_;   // literal only
  kernel::buffer<float, B>            gram_;  // literal only
  selection_report                    report_ = {};
};

static_assert(token_selector<selector<float, default_backend>, float>);

}  // namespace cascada::inline CASCADA_ABI
