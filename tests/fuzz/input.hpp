#pragma once
// The bytes that a fuzzer gives, read as numbers; zero where they end.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fuzz {

class input {
 public:
  input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  template <class Value>
  Value take() {
    Value             value = {};
    const std::size_t some  = std::min(left_, sizeof value);
    if (some > 0) std::memcpy(&value, data_, some);
    data_ += some;
    left_ -= some;
    return value;
  }

  /// 0 .. n - 1, for n up to 65536.
  int below(int n) { return n <= 256 ? take<std::uint8_t>() % n : take<std::uint16_t>() % n; }

 private:
  const std::uint8_t* data_;
  std::size_t         left_;
};

/// Ends the process, which the fuzzer reports with the input.
inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

}  // namespace fuzz
