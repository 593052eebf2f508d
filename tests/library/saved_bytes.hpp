#pragma once
// Saved states, and what else may come in their place. The format (cpu/base/saved_state.hpp) is written out.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "cascada/status.hpp"

namespace tests {

using saved_bytes = std::vector<std::byte>;

constexpr std::size_t header_bytes = 28, checksum_bytes = 8, at_length = 20;

/// None where a state is not saved.
template <class State>
saved_bytes bytes_of(const State& state) {
  saved_bytes bytes(state.saved_bytes());
  if (state.save(bytes) != cascada::status::ok) bytes.clear();
  return bytes;
}

template <class Number>
void put_number(saved_bytes& bytes, std::size_t at, Number number) {
  std::memcpy(bytes.data() + at, &number, sizeof number);
}

/// As if these bytes had been saved: their length and their checksum are right.
inline void seal(saved_bytes& bytes) {
  put_number(bytes, at_length, std::uint64_t{bytes.size()});
  std::uint64_t     hash = 0xcbf29ce484222325u;
  const std::size_t end  = bytes.size() - checksum_bytes;
  for (std::size_t i = 0; i < end; ++i) hash = (hash ^ static_cast<std::uint64_t>(bytes[i])) * 0x100000001b3u;
  put_number(bytes, end, hash);
}

/// The same bytes but for one number, sealed.
template <class Number>
saved_bytes with_number(saved_bytes bytes, std::size_t at, Number number) {
  put_number(bytes, at, number);
  seal(bytes);
  return bytes;
}

/// Sealed bytes that nobody saved: numbers from `first` on are others, and now and then there are fewer or more.
inline saved_bytes made_up(saved_bytes bytes, std::size_t first, std::minstd_rand& random) {
  constexpr std::uint32_t numbers[] = {0,          1,          2,          3,          8,  16,
                                       0x7fffffff, 0x80000000, 0xffffffff, 0x7f800000, 64, 0x3f800000};
  const auto              below     = [&](std::size_t n) { return static_cast<std::size_t>(random() >> 8) % n; };
  for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
    const std::size_t at = first + below((bytes.size() - first - checksum_bytes) / 4) * 4;
    put_number(bytes, at, below(4) == 0 ? static_cast<std::uint32_t>(random()) : numbers[below(12)]);
  }
  if (below(8) == 0) bytes.resize(bytes.size() + 4 * below(9) - 16);
  seal(bytes);
  return bytes;
}

}  // namespace tests
