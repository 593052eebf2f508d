#pragma once
// Device memory: one allocation that is cut into arrays, made once for a shape and kept.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cascada/hip/base/backend.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Cuts arrays off a range of memory; without memory it only counts the bytes.
class carver {
 public:
  explicit carver(void* memory = nullptr) : next_(static_cast<std::byte*>(memory)) {}

  template <class Value>
  void cut(Value*& array, std::int64_t count) noexcept {
    if (next_) array = reinterpret_cast<Value*>(next_ + bytes_);
    const auto bytes = static_cast<std::size_t>(count) * sizeof(Value);
    bytes_ += (bytes + line - 1) / line * line;
  }

  std::size_t bytes() const noexcept { return bytes_; }

 private:
  static constexpr std::size_t line = 128;  // a cache line of the chip

  std::byte*  next_;
  std::size_t bytes_ = 0;
};

/// Memory on a stream. Growing forgets the contents, and for a moment needs room for both; where memory runs out, all
/// stays as it was.
template <gfx942_stream B>
class device_memory {
 public:
  explicit device_memory(B where) : where_(where) {}
  ~device_memory() { release(); }

  device_memory(device_memory&& other) noexcept
      : where_(other.where_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  device_memory& operator=(device_memory&& other) noexcept {
    if (this == &other) return *this;
    release();
    where_ = other.where_;
    data_  = std::exchange(other.data_, nullptr);
    size_  = std::exchange(other.size_, 0);
    return *this;
  }

  /// Room for the arrays that `cut` cuts off a carver, which then lie in it. If memory runs out, they stay where they
  /// were.
  template <class Cut>
  [[nodiscard]] status carve(const Cut& cut) {
    const std::size_t bytes = bytes_of(cut);
    if (bytes > size_) {
      void* const larger = where_.allocate(bytes);
      if (!larger) return status::device_error;
      release();
      data_ = larger;
      size_ = bytes;
    }
    carver arrays(data_);
    cut(arrays);
    return status::ok;
  }

  /// What they take.
  template <class Cut>
  static std::size_t bytes_of(const Cut& cut) {
    carver needed;
    cut(needed);
    return needed.bytes();
  }

  void*       data() noexcept { return data_; }
  const void* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  void release() noexcept {
    if (data_) where_.release(data_);
    data_ = nullptr, size_ = 0;
  }

  B           where_;
  void*       data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cascada::inline CASCADA_ABI::hip
