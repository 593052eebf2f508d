#pragma once
// Workspace of the CPU stages: memory that is made once for a shape and kept.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "cascada/backend.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Half as much again, as far as sizes go: room for what grows step by step.
CASCADA_INLINE constexpr index_t half_more(index_t count) noexcept {
  constexpr index_t largest = std::numeric_limits<index_t>::max();
  return count > largest - count / 2 ? largest : count + count / 2;
}

/// Growable array of plain values on a cache-line boundary; contents are undefined until written. Empty once moved
/// from, and where memory ran out for reserve(). Its parameter B keeps differently compiled instances apart.
template <class Value, cpu_backend B>
class buffer {
  static_assert(std::is_trivially_copyable_v<Value>, "a workspace holds plain values");

 public:
  buffer() = default;
  ~buffer() { release(); }

  buffer(buffer&& other) noexcept { swap(other); }
  buffer& operator=(buffer&& other) noexcept {
    buffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  buffer(const buffer& other) : buffer(other, other.capacity_) {}
  /// A copy with as much room as `other`, of its first `used` values: the rest is not touched.
  buffer(const buffer& other, std::int64_t used) {
    reserve(other.capacity_);
    if (used > capacity_) used = capacity_;
    if (used > 0) std::memcpy(data_, other.data_, static_cast<std::size_t>(used) * sizeof(Value));
  }
  buffer& operator=(const buffer& other) {
    *this = buffer(other);
    return *this;
  }

  /// Room for `count` values. Never shrinks; growing forgets the contents.
  void reserve(std::int64_t count) {
    if (count <= capacity_) return;
    release();
    data_     = static_cast<Value*>(::operator new(static_cast<std::size_t>(count) * sizeof(Value), alignment));
    capacity_ = count;
  }

  /// Room for `count` values; the first `used` stay, also if memory runs out.
  void grow(std::int64_t count, std::int64_t used) {
    if (count <= capacity_) return;
    buffer larger;
    larger.reserve(count);
    if (used > capacity_) used = capacity_;
    if (used > 0) std::memcpy(larger.data_, data_, static_cast<std::size_t>(used) * sizeof(Value));
    *this = std::move(larger);
  }

  CASCADA_INLINE Value*       data() noexcept { return data_; }
  CASCADA_INLINE const Value* data() const noexcept { return data_; }
  CASCADA_INLINE std::int64_t capacity() const noexcept { return capacity_; }
  CASCADA_INLINE Value&       operator[](std::int64_t i) noexcept { return data_[i]; }
  CASCADA_INLINE const Value& operator[](std::int64_t i) const noexcept { return data_[i]; }

 private:
  static constexpr std::align_val_t alignment{64};

  /// By hand: of pointers to Value, unoptimised objects would share std's.
  void swap(buffer& other) noexcept {
    Value* const       data     = data_;
    const std::int64_t capacity = capacity_;
    data_ = other.data_, capacity_ = other.capacity_;
    other.data_ = data, other.capacity_ = capacity;
  }

  void release() noexcept {
    if (data_) ::operator delete(data_, alignment);
    data_     = nullptr;
    capacity_ = 0;
  }

  Value*       data_     = nullptr;
  std::int64_t capacity_ = 0;
};

/// Memory of an object's calls, whose contents mean nothing between them: a copy of the object begins without any.
template <class Memory>
struct call_memory : Memory {
  call_memory() = default;
  call_memory(const call_memory&) noexcept(noexcept(Memory())) : Memory() {}
  call_memory(call_memory&&) noexcept            = default;
  call_memory& operator=(call_memory&&) noexcept = default;
  call_memory& operator=(const call_memory&) noexcept { return *this; }
};

}  // namespace cascada::inline CASCADA_ABI::kernel
