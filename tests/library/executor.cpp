// The pool: every index exactly once, whoever calls, however often. Also compiled with ThreadSanitizer.

#include "cascada/executor.hpp"
#include "cascada/thread_pool.hpp"

#include <atomic>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "catch.hpp"

using namespace cascada;

namespace {

using pool     = thread_pool<0>;
using pooled   = pool_executor<0>;
using counters = std::vector<int>;

static_assert(executor<serial_executor> && executor<pooled>);

/// Kernels pass function objects with a state.
struct of_pointers {
  index_t concurrency() const { return 1; }
  void    parallel_for(index_t count, void (*function)(index_t)) const {
    for (index_t i = 0; i < count; ++i) function(i);
  }
};
static_assert(!executor<of_pointers>);

counters ones(index_t count) { return counters(static_cast<std::size_t>(count), 1); }

/// How often each index was called. Plain ints: two calls of one index at once are a race that ThreadSanitizer sees.
template <class Executor>
counters calls(const Executor& where, index_t count) {
  counters seen(static_cast<std::size_t>(count), 0);
  where.parallel_for(count, [&](index_t i) { ++seen[static_cast<std::size_t>(i)]; });
  return seen;
}

}  // namespace

TEST_CASE("executor: each index exactly once", "[executor][threads]") {
  const auto threads = GENERATE(1, 2, 5), count = GENERATE(0, 1, 2, 3, 64, 1000);
  CAPTURE(threads, count);
  pool owned(threads);
  CHECK(pooled{&owned}.concurrency() == threads);
  CHECK(calls(pooled{&owned}, count) == ones(count));
  CHECK(calls(serial_executor{}, count) == ones(count));
}

TEST_CASE("executor: without a pool, the process's own", "[executor][threads]") {
  const pooled where;
  CHECK(where.concurrency() == detail::usable_cpus<0>());
  CHECK(calls(where, 100) == ones(100));
}

TEST_CASE("executor: fewer than one thread is one thread", "[executor][threads]") {
  const auto threads = GENERATE(0, -3);
  pool       owned(threads);
  CHECK(owned.size() == 1);
  CHECK(calls(pooled{&owned}, 10) == ones(10));
}

TEST_CASE("executor: a call within a call", "[executor][threads]") {
  const auto threads = GENERATE(1, 2, 5);
  CAPTURE(threads);
  pool             owned(threads);
  const pooled     where{&owned};
  std::atomic<int> inner{0}, wrong{0};
  where.parallel_for(20, [&](index_t) {
    wrong += calls(where, 30) != ones(30);
    where.parallel_for(7, [&](index_t) { ++inner; });
  });
  CHECK(wrong == 0);
  CHECK(inner == 140);
}

TEST_CASE("executor: several callers at once", "[executor][threads]") {
  const auto threads = GENERATE(1, 2, 5);
  CAPTURE(threads);
  pool                     owned(threads);
  std::atomic<int>         wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&, c] {
      for (index_t round = 0; round < 200; ++round)
        wrong += calls(pooled{&owned}, c + round % 9) != ones(c + round % 9);
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("executor: many tiny calls, each sees what the one before wrote", "[executor][threads]") {
  const auto threads = GENERATE(2, 5);
  CAPTURE(threads);
  pool         owned(threads);
  const pooled where{&owned};
  counters     value(6, 0);
  for (int round = 0; round < 5000; ++round) {
    // Neighbours swap sides, so that an index reads what another thread wrote in the round before.
    counters next(6, 0);
    where.parallel_for(
        6, [&](index_t i) { next[static_cast<std::size_t>(i)] = value[static_cast<std::size_t>(i ^ 1)] + 1; });
    value.swap(next);
  }
  CHECK(value == counters(6, 5000));
}

TEST_CASE("executor: pools come and go, used or not, awake or asleep", "[executor][threads]") {
  const bool used = GENERATE(false, true), asleep = GENERATE(false, true);
  CAPTURE(used, asleep);
  for (int round = 0; round < (asleep ? 5 : 100); ++round) {
    pool owned(3);
    if (used) REQUIRE(calls(pooled{&owned}, 5) == ones(5));
    if (asleep) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (used) REQUIRE(calls(pooled{&owned}, 5) == ones(5));
  }
}

TEST_CASE("executor: any callable, and never a copy of it", "[executor][threads]") {
  pool             owned(2);
  const pooled     where{&owned};
  std::atomic<int> sum{0};

  const auto constant = [&](index_t i) { sum += i; };
  where.parallel_for(5, constant);
  CHECK(sum == 10);

  auto move_only = [&, one = std::make_unique<int>(1)](index_t i) { sum += i * *one; };
  where.parallel_for(5, move_only);
  where.parallel_for(5, std::move(move_only));
  CHECK(sum == 30);

  static std::atomic<int> counted{0};
  void (*function)(index_t) = [](index_t i) { counted += i; };
  where.parallel_for(5, function);
  CHECK(counted == 10);
}
