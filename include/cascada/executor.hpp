#pragma once
// Where parallel work runs: the executor concept, and the calling thread as one. thread_pool.hpp has the usual one.

#include <concepts>

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI {

namespace detail {

/// Like what kernels pass to executors: a function object with a state.
struct kernel_task {
  const void* state;

  void operator()(index_t) const;
};

}  // namespace detail

/// A cheap copyable handle. `parallel_for(n, f)` calls f(0) .. f(n-1), each once, in any order and on any thread, and
/// returns when all have; f does not throw. `concurrency()` says how many may run at once; what is below 1 counts as 1,
/// what is beyond most_threads as that. Engines pass their own. Objects that different threads use call it from those
/// threads at once, where they have copies of the same one.
template <class E>
concept executor = std::copyable<E> && requires(const E& where, index_t count) {
  { where.concurrency() } -> std::convertible_to<index_t>;
  where.parallel_for(count, detail::kernel_task{});
};

/// More threads than any stage has use for.
inline constexpr index_t most_threads = 4096;

namespace detail {

/// How many of its calls an executor is expected to run at once, whatever it says of itself.
template <executor E>
[[nodiscard]] CASCADA_INLINE index_t workers_of(const E& where) {
  const auto said = static_cast<index_t>(where.concurrency());
  return said < 1 ? 1 : said > most_threads ? most_threads : said;
}

}  // namespace detail

/// Everything on the calling thread, whichever that is.
struct serial_executor {
  CASCADA_INLINE index_t concurrency() const noexcept { return 1; }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    for (index_t i = 0; i < count; ++i) function(i);
  }
};

}  // namespace cascada::inline CASCADA_ABI
