#pragma once
// The version, its macros, and the index type.

#include <cstdint>

#define CASCADA_VERSION_MAJOR 0
#define CASCADA_VERSION_MINOR 2
#define CASCADA_VERSION_PATCH 0

// The inline namespace that everything of `cascada` lies in: v0_2_0, say. So two versions in one process share no code.
#define CASCADA_ABI CASCADA_JOIN_VALUES(CASCADA_VERSION_MAJOR, CASCADA_VERSION_MINOR, CASCADA_VERSION_PATCH)
#define CASCADA_JOIN_VALUES(major, minor, patch) CASCADA_JOIN(major, minor, patch)
#define CASCADA_JOIN(major, minor, patch) v##major##_##minor##_##patch

// Small functions are inlined even at -O0, so that objects compiled with different -m flags share none of them.
#define CASCADA_INLINE __attribute__((always_inline)) inline

// Attributes, so that no runtime header has to come first.
#ifdef __HIP__
#define CASCADA_HOST_DEVICE __attribute__((host)) __attribute__((device))
#define CASCADA_DEVICE __attribute__((device))
#else
#define CASCADA_HOST_DEVICE
#define CASCADA_DEVICE
#endif

namespace cascada::inline CASCADA_ABI {

/// Counts and positions of tokens, representatives, heads and columns. Offsets in elements are std::int64_t.
using index_t = std::int32_t;

}  // namespace cascada::inline CASCADA_ABI
