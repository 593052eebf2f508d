#pragma once
// cascade on gfx942: the class of cascade.hpp for rows in device memory.

#include <utility>

#include "cascada/cascade.hpp"
#include "cascada/hip/select/owner.hpp"

namespace cascada::inline CASCADA_ABI {

/// Walks one sequence through the layers on gfx942. As cascade.hpp says, and as selector.hpp, also of threads. A step
/// that fails on the device leaves the state as it was; T may change only by reset() or inherit().
template <row_scalar Scalar, gfx942_backend B>
class cascade<Scalar, B> {
  static_assert(hip::matrix_scalar<Scalar>, "cascade on gfx942: rows are bfloat16 or float16");

 public:
  explicit cascade(selection_options options = {}, B where = {}) : own_(options, where) {}

  [[nodiscard]] status step(matrix_view<const Scalar> x) {
    if (const status answer = own_.check(x); answer != status::ok) return answer;
    if (started_)
      if (const status answer = detail::check_step(x.rows, own_.tokens()); answer != status::ok) return answer;
    if (const status answer = own_.reserve(x.rows); answer != status::ok) return answer;
    if (const status answer = own_.run(x, current_ ^ 1, started_); answer != status::ok) return answer;
    current_ ^= 1;
    started_ = true;
    return status::ok;
  }

  /// Adopts a state in the host's memory; it may change once the call returns.
  [[nodiscard]] status inherit(const representatives& state) {
    if (const status answer = check(state, state.tokens()); answer != status::ok) return answer;
    const bool as_long = state.tokens() == own_.tokens();
    if (const status answer = own_.reserve(state.tokens()); answer != status::ok) return answer;
    started_ = started_ && as_long;
    if (const status answer = own_.upload(state, current_ ^ 1); answer != status::ok) return answer;
    current_ ^= 1;
    started_ = true;
    return status::ok;
  }

  void reset() noexcept {
    own_.replace();
    started_ = false;
  }

  /// `to` works on the same stream.
  [[nodiscard]] status fork(cascade& to) const {
    if (&to == this) return status::ok;
    if (started_)
      if (const status answer = to.own_.reserve(own_.tokens()); answer != status::ok) return answer;
    to.reset();
    if (!started_) return status::ok;
    if (const status answer = to.own_.copy(own_); answer != status::ok) return answer;
    to.current_ = current_;
    to.started_ = true;
    return status::ok;
  }

  cascade(cascade&& other) noexcept
      : own_(std::move(other.own_)), current_(other.current_), started_(std::exchange(other.started_, false)) {}
  cascade& operator=(cascade&& other) noexcept {
    own_     = std::move(other.own_);
    current_ = other.current_;
    started_ = std::exchange(other.started_, false);
    return *this;
  }

  /// Device memory of the last step's set, for what follows on the same stream; empty where there is none. Valid until
  /// the next call that changes it.
  [[nodiscard]] hip::selection_layer kept() const noexcept {
    return started_ ? own_.view(current_) : hip::selection_layer{};
  }

  /// Waits for the stream. Of the last step, nothing if that failed; of what was adopted since, its numbers.
  [[nodiscard]] selection_report report() const { return started_ ? own_.report() : selection_report{}; }

  /// Waits for the stream, and copies the set and the report. The answer is that of the last step; nothing is there
  /// after reset().
  [[nodiscard]] status download(hip::downloaded_selection& to) const {
    if (!started_) return to = {}, status::ok;
    return own_.download(to, current_);
  }

 private:
  hip::select::selection_owner<Scalar, B> own_;
  int                                     current_ = 0;
  bool                                    started_ = false;
};

static_assert(token_cascade<cascade<bfloat16, hip_gfx942>, bfloat16>);

}  // namespace cascada::inline CASCADA_ABI
