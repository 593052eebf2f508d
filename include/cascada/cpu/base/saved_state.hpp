#pragma once
// States as bytes: the one format of all that is saved.
//
//   magic     8 bytes  "cascada" and 0
//   version   u32      of this format. It changes with the order below, and with how leaves form and are numbered
//   kind      u32      whose state it is
//   rows      u32      type of its rows: 1 float, 2 bfloat16, 3 float16
//   length    u64      of all, header and checksum included
//   payload            numbers as the state puts them, without gaps
//   checksum  u64      FNV-1a of all bytes before it: no changed byte goes unnoticed
//
// Numbers are little-endian, at any alignment. Bytes do not depend on the instruction set. A checksum is no seal:
// whoever reads a payload takes every number in it for anybody's.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "cascada/backend.hpp"
#include "cascada/fnv1a.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

enum class saved_kind : std::uint32_t { selection = 1, attention = 2 };

template <row_scalar Scalar>
inline constexpr std::uint32_t saved_rows = 1;
template <>
inline constexpr std::uint32_t saved_rows<bfloat16> = 2;
template <>
inline constexpr std::uint32_t saved_rows<float16> = 3;

template <cpu_backend B>
struct saved_format {
  static_assert(std::endian::native == std::endian::little || sizeof(B) == 0, "saved numbers are little-endian");

  static constexpr char          magic[8] = "cascada";
  static constexpr std::uint32_t version  = 1;
  static constexpr std::size_t   header   = sizeof magic + 3 * sizeof(std::uint32_t) + sizeof(std::uint64_t);
  static constexpr std::size_t   least    = header + sizeof(std::uint64_t);  // without a payload

  static std::uint64_t checksum(const std::byte* bytes, std::size_t count) noexcept {
    std::uint64_t hash = detail::fnv1a_of_nothing;
    for (std::size_t i = 0; i < count; ++i) hash = detail::fnv1a(hash, static_cast<unsigned char>(bytes[i]));
    return hash;
  }
};

/// Puts numbers behind each other; without memory, it only counts.
template <cpu_backend B>
class state_writer {
 public:
  template <class Value>
  CASCADA_INLINE void put(const Value* values, std::int64_t count) noexcept {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Value);
    if (to_ && bytes > 0) std::memcpy(to_ + size_, values, bytes);
    size_ += bytes;
  }
  template <class Value>
  CASCADA_INLINE void put(Value value) noexcept {
    put(&value, 1);
  }

  std::size_t size() const noexcept { return size_; }

  /// Bytes of a state that puts itself, state.put(writer).
  template <class State>
  static std::size_t size_of(const State& state) noexcept {
    state_writer all;
    state.put(all);
    return saved_format<B>::least + all.size_;
  }

  /// Such a state as size_of(state) bytes.
  template <class State>
  static status save(const State& state, saved_kind kind, std::uint32_t rows, std::span<std::byte> to) noexcept {
    using format = saved_format<B>;
    if (to.size() != size_of(state)) return {status::invalid_shape, "bytes.size() is not saved_bytes()"};
    if (!to.data()) return {status::invalid_shape, "bytes is null"};
    state_writer all;
    all.to_ = to.data();
    all.put(format::magic, sizeof format::magic);
    all.put(format::version), all.put(kind), all.put(rows), all.put(std::uint64_t{to.size()});
    state.put(all);
    all.put(format::checksum(to.data(), all.size_));
    return status::ok;
  }

 private:
  std::byte*  to_   = nullptr;
  std::size_t size_ = 0;
};

/// Takes numbers out again. What a function finds wanting it does not read.
template <cpu_backend B>
class state_reader {
 public:
  explicit state_reader(std::span<const std::byte> bytes) noexcept : next_(bytes.data()), left_(bytes.size()) {}

  /// Turns to the payload, if the bytes are what was saved of a state of that kind.
  status open(saved_kind kind, std::uint32_t rows) noexcept {
    using format = saved_format<B>;
    if (!next_) return {status::invalid_shape, "bytes is null"};
    if (left_ < format::least) return {status::invalid_shape, "bytes is shorter than any saved state"};
    const std::byte* const all    = next_;
    const std::size_t      length = left_;
    if (!matches(format::magic, sizeof format::magic)) return {status::invalid_shape, "bytes is no saved state"};
    if (!matches(format::version)) return {status::unsupported, "bytes has another version of the format"};
    if (!matches(kind)) return {status::unsupported, "bytes is the state of another kind of object"};
    if (!matches(rows)) return {status::unsupported, "bytes is the state for rows of another type"};
    if (!matches(std::uint64_t{length}))
      return {status::invalid_shape, "bytes is shorter or longer than what was saved"};
    std::uint64_t checksum = 0;
    std::memcpy(&checksum, all + length - sizeof checksum, sizeof checksum);
    if (checksum != format::checksum(all, length - sizeof checksum))
      return {status::invalid_shape, "bytes is not what was saved: the checksum differs"};
    left_ -= sizeof checksum;
    return status::ok;
  }

  /// Whether there are `count` values more.
  template <class Value>
  CASCADA_INLINE bool holds(std::int64_t count) const noexcept {
    return count >= 0 && static_cast<std::uint64_t>(count) <= left_ / sizeof(Value);
  }

  /// Whether all is taken.
  bool done() const noexcept { return left_ == 0; }

  template <class Value>
  CASCADA_INLINE bool take(Value* to, std::int64_t count) noexcept {
    if (!holds<Value>(count)) return false;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Value);
    if (bytes > 0) std::memcpy(to, next_, bytes);
    skip(bytes);
    return true;
  }
  template <class Value>
  CASCADA_INLINE bool take(Value& to) noexcept {
    return take(&to, 1);
  }

  /// Whether the next values are these.
  template <class Value>
  CASCADA_INLINE bool matches(const Value* values, std::int64_t count) noexcept {
    if (!holds<Value>(count)) return false;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Value);
    const bool        same  = std::memcmp(next_, values, bytes) == 0;
    skip(bytes);
    return same;
  }
  template <class Value>
  CASCADA_INLINE bool matches(Value value) noexcept {
    return matches(&value, 1);
  }

 private:
  CASCADA_INLINE void skip(std::size_t bytes) noexcept {
    next_ += bytes;
    left_ -= bytes;
  }

  const std::byte* next_;
  std::size_t      left_;
};

/// Of a payload that ends too early or too late for the numbers in it.
CASCADA_INLINE status sizes_differ() noexcept {
  return {status::invalid_shape, "bytes has sizes that do not add up to its length"};
}

}  // namespace cascada::inline CASCADA_ABI::kernel
