#pragma once
// The threads of a ggml graph as an executor.

#include <atomic>
#include <cascada/executor.hpp>
#include <cstdint>
#include <memory>
#include <thread>

namespace ggml_cascada {

using cascada::index_t;

/// ggml calls an operation on every thread of the graph and goes on when all have returned. Here thread 0 computes, and
/// the others take pieces of its work: no thread beside ggml's own, which wait by spinning and would be in the way of
/// any other.
class graph_threads {
 public:
  /// Thread ith of nth, in one operation. `work` runs on thread 0; the others return when it has. Does not throw.
  template <class Work>
  void run(int ith, int nth, const Work& work) noexcept {
    if (ith != 0) return help();
    threads_ = nth;
    work();
    threads_ = 1;
    over_.store(true);
    for (int spins = 0; gone_.load() != nth - 1;) pause(spins);
    gone_.store(0), over_.store(false);  // all have gone, and none comes back before ggml's barrier
  }

  index_t concurrency() const noexcept { return threads_; }

  /// On thread 0, inside `work`; f does not throw. A nested call stays on its thread.
  template <class Function>
  void parallel_for(index_t count, Function& function) noexcept {
    if (threads_ == 1 || count <= 1 || busy_.exchange(true)) {
      for (index_t i = 0; i < count; ++i) function(i);
      return;
    }
    call_    = [](void* context, index_t i) { (*static_cast<Function*>(context))(i); };
    context_ = const_cast<void*>(static_cast<const void*>(std::addressof(function)));
    count_   = count;
    next_.store(0);
    round_.fetch_add(1);  // odd: there is work
    drain();
    round_.fetch_add(1);
    for (int spins = 0; inside_.load() != 0;) pause(spins);
    busy_.store(false);
  }

 private:
  static void pause(int& spins) noexcept {
    if (++spins > 4000) return std::this_thread::yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  void drain() noexcept {
    for (std::int64_t i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1))
      call_(context_, static_cast<index_t>(i));
  }

  void help() noexcept {
    std::uint64_t done = 0;
    for (int spins = 0; !over_.load();) {
      const std::uint64_t now = round_.load();
      if (now % 2 == 0 || now == done) {
        pause(spins);
        continue;
      }
      inside_.fetch_add(1);
      if (round_.load() == now) drain();  // else it is too late, and the work may be another already
      inside_.fetch_sub(1);
      done = now, spins = 0;
    }
    gone_.fetch_add(1);
  }

  int                        threads_ = 1;
  std::atomic<bool>          busy_{false}, over_{false};
  std::atomic<int>           inside_{0}, gone_{0};
  std::atomic<std::uint64_t> round_{0};
  std::atomic<std::int64_t>  next_{0};
  index_t                    count_   = 0;
  void*                      context_ = nullptr;
  void (*call_)(void*, index_t)       = nullptr;
};

/// The handle that the library copies.
struct graph_executor {
  graph_threads* threads = nullptr;

  index_t concurrency() const noexcept { return threads->concurrency(); }
  template <class Function>
  void parallel_for(index_t count, Function&& function) const noexcept {
    threads->parallel_for(count, function);
  }
};

static_assert(cascada::executor<graph_executor>);

}  // namespace ggml_cascada
