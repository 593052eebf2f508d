#pragma once
// selector on gfx942: the class of select.hpp for rows in device memory.

#include "cascada/hip/select/owner.hpp"
#include "cascada/select.hpp"

namespace cascada::inline CASCADA_ABI {

/// Full selection on gfx942. As select.hpp says, set and rep bit for bit, but x is in device memory, 16-byte aligned,
/// with stride and d multiples of 8, and the call returns before the stream has done it: r, the report and a status
/// that depends on data (`non_finite_token`, `too_many_representatives`) stay on the device until report() or
/// download(), which wait for the stream. A selection that fails there keeps nothing, and attention to it writes
/// nothing. There is no literal(). One call at a time; objects of different threads may share a stream, which then runs
/// what they put there in any order.
template <row_scalar Scalar, gfx942_backend B>
class selector<Scalar, B> {
  static_assert(hip::matrix_scalar<Scalar>, "selector on gfx942: rows are bfloat16 or float16");

 public:
  explicit selector(selection_options options = {}, B where = {}) : own_(options, where) {}

  [[nodiscard]] status operator()(matrix_view<const Scalar> x) {
    if (const status answer = own_.check(x); answer != status::ok) return answer;
    if (const status answer = own_.reserve(x.rows); answer != status::ok) return answer;
    return own_.run(x, false);
  }

  /// Memory for so many tokens, so that a first call can be captured in a graph. Forgets a set of other many.
  [[nodiscard]] status reserve(index_t tokens) { return own_.reserve(tokens); }

  /// The paper's baseline is the CPU's.
  template <class X>
  status literal(const X&) {
    static_assert(sizeof(X) == 0, "selector on gfx942: there is no literal(); the CPU's selector has it");
    return status::unsupported_by_device;
  }

  /// Device memory of the last selection, for what follows on the same stream. Valid until the next call.
  [[nodiscard]] hip::selection_layer kept() const noexcept { return own_.view(); }

  /// Waits for the stream. Nothing, if the last selection failed.
  [[nodiscard]] selection_report report() const { return own_.report(); }

  /// Waits for the stream, and copies the set and the report. The answer is that of the last selection.
  [[nodiscard]] status download(hip::downloaded_selection& to) const { return own_.download(to); }

 private:
  hip::select::selection_owner<Scalar, B> own_;
};

static_assert(token_selector<selector<bfloat16, hip_gfx942>, bfloat16> &&
              downloadable_selection<selector<bfloat16, hip_gfx942>, hip::downloaded_selection>);

}  // namespace cascada::inline CASCADA_ABI
