#pragma once
// What a stage answers. Anything but `ok` leaves outputs and state as they were; what fails on a device while it runs,
// its classes say.

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

/// A code, and one sentence that says which argument is refused and why. Small, and never allocates: the sentence is a
/// string that lives as long as the program. Equal codes compare equal, whatever the sentences:
///
///   const cascada::status answer = select(x);
///   if (answer != cascada::status::ok) std::puts(message(answer));
///
/// Code that refuses gives the sentence with the code, the argument first, without a full stop:
///
///   if (q.dim < 1) return {status::invalid_shape, "q.dim is less than 1"};
class [[nodiscard]] status {
 public:
  /// What kind of refusal it is, for a program to act on: static_cast<status::code>(answer), or the number of it.
  enum code : int {
    ok,
    invalid_shape,             // data, sizes or strides of an argument, or a size or factor among the options: out of
                               // range, or not fitting another
    invalid_threshold,         // out of its range, or too small to compute with
    invalid_representatives,   // a state that no selection of these tokens could have left
    non_finite_token,          // a row has NaN or Inf, or its squared norm overflows
    too_large,                 // sizes or factors beyond what is counted or computed with
    too_many_representatives,  // more than the caller's own max_representatives
    unsupported,               // options that contradict each other, or what an argument was made with
    unsupported_by_device,     // options, sizes or alignment that the accelerator's kernels do not take
    device_error,              // the accelerator's runtime failed; hipGetLastError() has its own code
  };

  /// With the sentence of its kind: enough where a kind has one cause.
  CASCADA_INLINE constexpr status(code value) noexcept : code_(value), sentence_(sentence_of(value)) {}

  /// `sentence` outlives every copy: a string literal.
  CASCADA_INLINE constexpr status(code value, const char* sentence) noexcept : code_(value), sentence_(sentence) {}

  [[nodiscard]] CASCADA_INLINE explicit constexpr operator code() const noexcept { return code_; }
  [[nodiscard]] CASCADA_INLINE explicit constexpr operator int() const noexcept { return code_; }

  CASCADA_INLINE friend constexpr bool operator==(status a, status b) noexcept { return a.code_ == b.code_; }

  friend constexpr const char* message(status answer) noexcept;

 private:
  CASCADA_INLINE static constexpr const char* sentence_of(code value) noexcept {
    switch (value) {
      case ok: return "ok";
      case invalid_shape: return "an argument's data, sizes or strides are not those of an array that fits";
      case invalid_threshold: return "the threshold must lie in (0, 1]";
      case invalid_representatives: return "the representatives are not a selection of these tokens";
      case non_finite_token: return "a token has NaN or Inf, or its squared norm overflows";
      case too_large: return "the product of sizes overflows";
      case too_many_representatives: return "the selection has more representatives than options.max_representatives";
      case unsupported: return "these options make no sense together";
      case unsupported_by_device: return "the device's kernels do not take these options, sizes or this alignment";
      case device_error: return "the accelerator's runtime reported an error";
    }
    return "unknown status";
  }

  code        code_;
  const char* sentence_;
};

/// The answer as one sentence for a person, without a full stop.
[[nodiscard]] CASCADA_INLINE constexpr const char* message(status answer) noexcept { return answer.sentence_; }

}  // namespace cascada::inline CASCADA_ABI
