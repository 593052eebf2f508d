#pragma once
// FNV-1a, a hash of bytes (Fowler, Noll, Vo): tells texts and saved bytes apart, and guards against no one.

#include <cstdint>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// The hash of no bytes, and of one more.
inline constexpr std::uint64_t         fnv1a_of_nothing = 0xcbf2'9ce4'8422'2325u;
CASCADA_INLINE constexpr std::uint64_t fnv1a(std::uint64_t hash, unsigned char byte) noexcept {
  return (hash ^ byte) * 0x100'0000'01b3u;
}

}  // namespace cascada::inline CASCADA_ABI::detail
