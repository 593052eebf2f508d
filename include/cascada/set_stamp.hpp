#pragma once
// Whether a view still shows what its owner keeps: sets have numbers, and those that were replaced are written down.

#include <cstdint>
#include <utility>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// What a view remembers of the set it shows: its number, and where that is written when the set is replaced. That is
/// memory of the program, which no owner takes along when it goes. A view that someone made by hand has no stamp.
struct set_stamp {
  const std::uint64_t* replaced = nullptr;
  std::uint64_t        number   = 0;

  /// Whether the owner has replaced the set, or is gone. O(1).
  [[nodiscard]] CASCADA_INLINE constexpr bool stale() const noexcept {
    return replaced && __atomic_load_n(replaced, __ATOMIC_RELAXED) == number;
  }
};

/// Of an owner: the number of the set that it keeps, which no other set of this `Key` (the backend) has: so differently
/// compiled instances stay apart. It goes where the set goes; a copy gets its own. A number that was given up is known
/// until one that equals it modulo `remembered` is given up too.
template <class Key>
class set_number {
 public:
  set_number() = default;
  set_number(const set_number& other) noexcept {
    if (other.number_ != 0) renew();
  }
  set_number(set_number&& other) noexcept : number_(std::exchange(other.number_, 0)) {}
  set_number& operator=(set_number other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~set_number() { give_up(); }

  /// Another set, or other memory: views of the one before are stale from here on.
  void renew() noexcept {
    give_up();
    number_ = __atomic_add_fetch(&last_, 1, __ATOMIC_RELAXED);
  }

  /// For a view of the set that is kept now.
  [[nodiscard]] CASCADA_INLINE set_stamp stamp() const noexcept {
    return number_ == 0 ? set_stamp{} : set_stamp{replaced_ + number_ % remembered, number_};
  }

 private:
  void give_up() noexcept {
    if (number_ != 0) __atomic_store_n(replaced_ + number_ % remembered, number_, __ATOMIC_RELAXED);
  }

  static constexpr std::uint64_t remembered = 4096;  // 32 KiB a backend

  static inline std::uint64_t last_                 = 0;
  static inline std::uint64_t replaced_[remembered] = {};

  std::uint64_t number_ = 0;
};

}  // namespace cascada::inline CASCADA_ABI::detail
