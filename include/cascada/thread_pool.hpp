#pragma once
// A small pool of threads, and the executor that works on one: what the CPU uses where nobody says otherwise.

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "cascada/config.hpp"
#include "cascada/executor.hpp"
#include "cascada/usable_cpus.hpp"

namespace cascada::inline CASCADA_ABI {

/// A fixed set of threads that wait for work, which any thread may call. One caller at a time has the pool; another, or
/// a nested call, does its work on its own thread instead of waiting. Nor does a caller wait for threads that have not
/// woken by the time all work is taken. `Key` (the backend's isa) keeps differently compiled pools apart.
///
/// A guest in the host's process: where the system gives it fewer threads than it asks for, it is as large as they are,
/// down to the calling thread alone. In the child of a fork, which has no other threads, it is that one too.
template <auto Key>
class thread_pool {
 public:
  /// Threads, the calling one included: from 1 to most_threads.
  explicit thread_pool(index_t threads) {
    static const int noticed = pthread_atfork(nullptr, nullptr, [] { forks_.fetch_add(1, std::memory_order_relaxed); });
    static_cast<void>(noticed);
    const index_t most = threads < 1 ? 1 : threads < most_threads ? threads : +most_threads;
    workers_           = std::make_unique<pthread_t[]>(static_cast<std::size_t>(most - 1));
    while (threads_ < most && begin_worker(workers_[static_cast<std::size_t>(threads_ - 1)])) ++threads_;
  }

  ~thread_pool() {
    if (in_child()) return;
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (index_t i = 0; i + 1 < threads_; ++i) pthread_join(workers_[static_cast<std::size_t>(i)], nullptr);
  }

  thread_pool(const thread_pool&)            = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  index_t size() const noexcept { return in_child() ? 1 : threads_; }

  template <class Function>
  void parallel_for(index_t count, Function& function) {
    bool free = false;
    if (size() == 1 || count <= 1 || !busy_.compare_exchange_strong(free, true, std::memory_order_acquire)) {
      for (index_t i = 0; i < count; ++i) function(i);
      return;
    }
    call_    = [](void* context, index_t i) { (*static_cast<Function*>(context))(i); };
    context_ = const_cast<void*>(static_cast<const void*>(std::addressof(function)));
    count_   = count;
    next_.store(0, std::memory_order_relaxed);
    inside_.fetch_or(door, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    drain();
    inside_.fetch_and(~door, std::memory_order_relaxed);
    for (std::uint32_t left = inside_.load(std::memory_order_acquire); left != 0;
         left               = inside_.load(std::memory_order_acquire))
      if (!spin_while_equal(inside_, left)) inside_.wait(left, std::memory_order_acquire);
    busy_.store(false, std::memory_order_release);
  }

 private:
  static constexpr std::uint32_t door = std::uint32_t{1} << 31;

  // Stages follow each other within microseconds; sleeping between them would cost more than the work of a block.
  static constexpr int spins = 4000;

  CASCADA_INLINE bool in_child() const noexcept { return forks_.load(std::memory_order_relaxed) != born_; }

  /// Not std::thread, which throws where the system refuses.
  bool begin_worker(pthread_t& worker) noexcept {
    return pthread_create(
               &worker, nullptr,
               [](void* pool) -> void* {
                 static_cast<thread_pool*>(pool)->work();
                 return nullptr;
               },
               this) == 0;
  }

  template <class Value>
  static bool spin_while_equal(const std::atomic<Value>& value, Value old) noexcept {
    for (int i = 0; i < spins; ++i) {
      if (value.load(std::memory_order_acquire) != old) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    return false;
  }

  void drain() {
    for (std::int64_t i = next_.fetch_add(1, std::memory_order_relaxed); i < count_;
         i              = next_.fetch_add(1, std::memory_order_relaxed))
      call_(context_, static_cast<index_t>(i));
  }

  void work() {
    std::uint32_t seen = 0;
    for (;;) {
      if (!spin_while_equal(generation_, seen)) generation_.wait(seen, std::memory_order_acquire);
      const std::uint32_t now = generation_.load(std::memory_order_acquire);
      if (now == seen) continue;
      seen = now;
      if (stop_.load(std::memory_order_relaxed)) return;
      if (inside_.fetch_add(1, std::memory_order_acquire) & door) drain();
      if (inside_.fetch_sub(1, std::memory_order_release) == 1) inside_.notify_one();
    }
  }

  static inline std::atomic<std::uint32_t> forks_{0};

  std::uint32_t                born_    = forks_.load(std::memory_order_relaxed);
  index_t                      threads_ = 1;
  std::unique_ptr<pthread_t[]> workers_;
  std::atomic<bool>            busy_{false};
  std::atomic<bool>            stop_{false};
  std::atomic<std::uint32_t>   generation_{0};
  std::atomic<std::int64_t>    next_{0};    // passes count_ by one per thread, which index_t might not hold
  std::atomic<std::uint32_t>   inside_{0};  // workers that may touch the work; the door bit: more may come in
  index_t                      count_ = 0;
  void (*call_)(void*, index_t)       = nullptr;
  void* context_                      = nullptr;
};

/// Handle to a pool, for any thread; without one, to the process's own pool, made on first use with a thread for each
/// CPU that affinity masks and quotas leave the process at that time.
template <auto Key>
struct pool_executor {
  thread_pool<Key>* pool = nullptr;

  index_t concurrency() const { return target().size(); }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    target().parallel_for(count, function);
  }

 private:
  thread_pool<Key>& target() const {
    if (pool) return *pool;
    static thread_pool<Key> shared(detail::usable_cpus<Key>());
    return shared;
  }
};

}  // namespace cascada::inline CASCADA_ABI
