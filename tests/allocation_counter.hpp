#pragma once
// Counts the allocations of a whole program: allocation_counter.cpp replaces operator new.

namespace tests {

/// Allocations since the start, by all threads.
long allocations() noexcept;

/// Allocations of all threads during `function()`.
template <class Function>
long allocations_of(Function&& function) {
  const long before = allocations();
  function();
  return allocations() - before;
}

}  // namespace tests
