#pragma once
// cascade on gfx942: the class of cascade.hpp for rows in device memory.

#include "cascada/cascade.hpp"
#include "cascada/hip/select/owner.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

/// Walks one sequence through the layers on gfx942. As cascade.hpp says, and as selector.hpp, also of threads. A step
/// that fails on the device leaves the state as it was; T may change only by reset(), inherit() or reserve(). If the
/// runtime refuses a launch or a copy (`device_error`), the state is lost, as by reset(); if memory, it stays.
///
/// What a step puts on the stream depends on T alone, and on whether it is the first one, which selects in full. Where
/// it was captured in a graph, each time that is replayed it is the next step, from what x then holds: kept() shows its
/// set, report() its counts. Memory is made by reserve() or a call before, not while a graph is captured.
template <row_scalar Scalar, gfx942_backend B>
class cascade<Scalar, B> {
  static_assert(hip::matrix_scalar<Scalar>, "cascade on gfx942: rows are bfloat16 or float16");

 public:
  explicit cascade(selection_options options = {}, B where = {}) : own_(options, where) {}

  [[nodiscard]] status step(matrix_view<const Scalar> x) {
    if (const status answer = own_.check(x); answer != status::ok) return answer;
    if (own_.there())
      if (const status answer = detail::check_step(x.rows, own_.tokens()); answer != status::ok) return answer;
    if (const status answer = own_.reserve(x.rows); answer != status::ok) return answer;
    return own_.run(x, own_.there());
  }

  /// Adopts a state in the host's memory; it may change once the call returns.
  [[nodiscard]] status inherit(const representatives& state) {
    if (const status answer = check(state, state.tokens()); answer != status::ok) return answer;
    return own_.upload(state);
  }

  /// Memory for steps of so many tokens. Forgets the state if it has other many.
  [[nodiscard]] status reserve(index_t tokens) { return own_.reserve(tokens); }

  void reset() noexcept { own_.forget(); }

  /// `to` works on the same stream.
  [[nodiscard]] status fork(cascade& to) const { return &to == this ? status{status::ok} : to.own_.copy(own_); }

  /// Device memory of the last step's set, for what follows on the same stream; empty where there is none. Valid until
  /// the next call that changes it.
  [[nodiscard]] hip::selection_layer kept() const noexcept { return own_.view(); }

  /// Waits for the stream. Of the last step, nothing if that failed; of what was adopted since, its numbers.
  [[nodiscard]] selection_report report() const { return own_.report(); }

  /// Waits for the stream, and copies the set and the report. The answer is that of the last step; nothing is there
  /// after reset().
  [[nodiscard]] status download(hip::downloaded_selection& to) const { return own_.download(to); }

 private:
  hip::select::selection_owner<Scalar, B> own_;
};

static_assert(token_cascade<cascade<bfloat16, hip_gfx942>, bfloat16> &&
              downloadable_selection<cascade<bfloat16, hip_gfx942>, hip::downloaded_selection>);

}  // namespace cascada::inline CASCADA_ABI
