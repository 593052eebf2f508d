#pragma once
// Counts the allocations of a whole program, and lets one of them fail: allocation_counter.cpp replaces operator new.

#include <new>

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

/// Whether `call()` throws std::bad_alloc where its n-th allocation fails.
template <class Call>
bool runs_out_at(long n, const Call& call) {
  bool failed = false;
  fail_allocation(n);
  try {
    call();
  } catch (const std::bad_alloc&) {
    failed = true;
  }
  fail_allocation(0);
  return failed;
}

}  // namespace tests
