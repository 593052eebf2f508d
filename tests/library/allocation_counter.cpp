#include "allocation_counter.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long>      count{0};
std::atomic<long>      until_failure{0};
std::atomic<long long> bytes{0};

void* allocate(std::size_t size, std::size_t alignment) {
  ++count, bytes += static_cast<long long>(size);
  if (until_failure > 0 && --until_failure == 0) throw std::bad_alloc();
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), size) != 0) std::abort();
  return memory;
}

}  // namespace

long      tests::allocations() noexcept { return count; }
long long tests::allocated_bytes() noexcept { return bytes; }

void tests::fail_allocation(long n) noexcept { until_failure = n; }

// The array and nothrow forms of the standard library call these.
void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
