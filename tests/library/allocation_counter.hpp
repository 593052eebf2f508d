#pragma once
// Counts the allocations of a whole program, and lets one of them fail: allocation_counter.cpp replaces operator new.

namespace tests {

/// Allocations since the start, by all threads.
long allocations() noexcept;

/// Bytes of all of them, those given back as well.
long long allocated_bytes() noexcept;

/// Allocations of all threads during `function()`.
template <class Function>
long allocations_of(Function&& function) {
  const long before = allocations();
  function();
  return allocations() - before;
}

/// From now on the n-th allocation throws std::bad_alloc, once; 0: none does.
void fail_allocation(long n) noexcept;

}  // namespace tests
