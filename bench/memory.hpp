#pragma once
// How much the library holds on the heap: memory.cpp replaces operator new.

#include <cstdint>

namespace bench {

/// Bytes held now, and the most since the last reset.
std::int64_t memory_held() noexcept;
std::int64_t memory_peak() noexcept;
void         reset_memory_peak() noexcept;

}  // namespace bench
