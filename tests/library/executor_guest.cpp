// A guest in the host's process: few CPUs, no threads to be had, forks, and executors that say strange things.

#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

using pool   = thread_pool<0>;
using pooled = pool_executor<0>;

constexpr index_t unlimited = std::numeric_limits<index_t>::max();

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// Whether each index is called exactly once.
template <class Executor>
bool works(const Executor& where, index_t count = 100) {
  std::vector<int> seen(static_cast<std::size_t>(count), 0);
  where.parallel_for(count, [&](index_t i) { ++seen[static_cast<std::size_t>(i)]; });
  return std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; });
}

/// The exit code of a child process that runs `body`; -1 if a signal ends it, as one does that waits for a minute.
template <class Body>
int exit_code_of_child(const Body& body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  int result = 0;
  REQUIRE(waitpid(child, &result, 0) == child);
  return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

/// Does everything on the calling thread, and says something else.
struct strange_executor {
  index_t said;

  index_t concurrency() const { return said; }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    for (index_t i = 0; i < count; ++i) function(i);
  }
};

/// Folders and files of control groups.
class control_groups {
 public:
  control_groups() {
    root_ = (std::filesystem::temp_directory_path() / "cascada-XXXXXX").string();
    REQUIRE(mkdtemp(root_.data()) != nullptr);
  }
  ~control_groups() { std::filesystem::remove_all(root_); }

  void put(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + file).parent_path());
    std::ofstream(root_ + file) << text;
  }
  index_t quota() const { return detail::quota_cpus<0>((root_ + "/membership").c_str(), root_.c_str()); }
  index_t usable() const { return detail::usable_cpus<0>((root_ + "/membership").c_str(), root_.c_str()); }

 private:
  std::string root_;
};

}  // namespace

TEST_CASE("guest: no thread can be made", "[guest]") {
  pthread_attr_t usual, greedy;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  REQUIRE(pthread_getattr_default_np(&greedy) == 0);
  REQUIRE(pthread_attr_setstacksize(&greedy, std::size_t{1} << 50) == 0);
  REQUIRE(pthread_setattr_default_np(&greedy) == 0);
  {
    pool owned(8);
    CHECK(owned.size() == 1);
    CHECK(pooled{&owned}.concurrency() == 1);
    CHECK(works(pooled{&owned}));
  }
  REQUIRE(pthread_setattr_default_np(&usual) == 0);
  pthread_attr_destroy(&usual), pthread_attr_destroy(&greedy);
}

TEST_CASE("guest: some threads can be made, and no more", "[guest]") {
  if (sanitized) return;           // they need the address space that is taken away here
  constexpr int not_limited = 77;  // an emulator of one process may ignore the limit, which would hold for itself too
  const int     code        = exit_code_of_child([] {
    std::ifstream statm("/proc/self/statm");
    rlim_t        pages = 0;
    statm >> pages;
    const rlimit room = {pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20), RLIM_INFINITY};
    rlimit       set  = {};
    if (setrlimit(RLIMIT_AS, &room) != 0 || getrlimit(RLIMIT_AS, &set) != 0) return 1;
    if (set.rlim_cur != room.rlim_cur) return not_limited;
    pool first(500);
    if (first.size() < 2 || first.size() > 100) return 2;
    pool second(500);  // all threads are taken
    if (second.size() > 2) return 3;
    return works(pooled{&first}) && works(pooled{&second}) ? 0 : 4;
  });
  if (code == not_limited)
    WARN("address space cannot be limited here");
  else
    CHECK(code == 0);
}

TEST_CASE("guest: more threads than anybody needs", "[guest]") {
  const auto said = GENERATE(index_t{0}, index_t{-7}, std::numeric_limits<index_t>::min());
  pool       owned(said);
  CHECK(owned.size() == 1);
  CHECK(detail::workers_of(strange_executor{said}) == 1);
  CHECK(detail::workers_of(strange_executor{unlimited}) == most_threads);
}

TEST_CASE("guest: the child of a fork works alone", "[guest][threads]") {
  const auto threads = GENERATE(2, 5);
  const bool used    = GENERATE(false, true);
  CAPTURE(threads, used);
  pool* owned = new pool(threads);
  if (used) REQUIRE(works(pooled{owned}));
  const int code = exit_code_of_child([&] {
    if (owned->size() != 1 || !works(pooled{owned})) return 1;
    delete owned;  // and joins nobody
    return 0;
  });
  CHECK(code == 0);
  CHECK(owned->size() == threads);
  CHECK(works(pooled{owned}));
  delete owned;
}

TEST_CASE("guest: the child of a fork in the middle of work", "[guest]") {
  pool             owned(4);
  std::atomic<int> wrong{0};
  for (int round = 0; round < 20; ++round)
    pooled{&owned}.parallel_for(8, [&](index_t i) {
      if (i != 5) return;
      const pid_t child = fork();
      if (child == 0) {
        alarm(60);
        _exit(works(pooled{&owned}) ? 0 : 1);
      }
      int result = 0;
      wrong += waitpid(child, &result, 0) != child || !WIFEXITED(result) || WEXITSTATUS(result) != 0;
    });
  CHECK(wrong == 0);
}

TEST_CASE("guest: the CPUs that the affinity mask leaves", "[guest]") {
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  CHECK(detail::allowed_cpus<0>() == CPU_COUNT(&all));
  CHECK(detail::usable_cpus<0>() <= CPU_COUNT(&all));
  CHECK(detail::usable_cpus<0>() >= 1);
  index_t     allowed = 0, usable = 0, shared = 0;
  std::thread confined([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t c = 0; c < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++c)
      if (CPU_ISSET(c, &all)) CPU_SET(c, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) return;
    allowed = detail::allowed_cpus<0>(), usable = detail::usable_cpus<0>();
    shared = pool_executor<77>{}.concurrency();  // this one's own pool, made here
  });
  confined.join();
  CHECK(allowed == 1);
  CHECK(usable == 1);
  CHECK(shared == 1);
}

TEST_CASE("guest: the CPUs that quotas of control groups leave", "[guest]") {
  const control_groups groups;
  index_t              expected = unlimited;
  SECTION("no groups") {}
  SECTION("nothing that makes sense") { groups.put("/membership", "0:/a\n\n::\nx:cpu\n"); }
  SECTION("version 2") {
    groups.put("/membership", "0::/a/b\n");
    SECTION("without files") {}
    SECTION("without a quota") { groups.put("/a/b/cpu.max", "max 100000\n"); }
    SECTION("its own") { groups.put("/a/b/cpu.max", "300000 100000\n"), expected = 3; }
    SECTION("a part of a CPU more") { groups.put("/a/b/cpu.max", "399999 100000\n"), expected = 3; }
    SECTION("less than a CPU") { groups.put("/a/b/cpu.max", "20000 100000\n"), expected = 1; }
    SECTION("that of a group around it") {
      groups.put("/a/b/cpu.max", "900000 100000\n"), groups.put("/a/cpu.max", "100000 50000\n"), expected = 2;
    }
    SECTION("that of the root, as a container sees it") { groups.put("/cpu.max", "400000 100000\n"), expected = 4; }
    SECTION("nonsense") { groups.put("/a/b/cpu.max", "-1 0\n"), groups.put("/a/cpu.max", "5"); }
  }
  SECTION("version 2, the root itself") {
    groups.put("/membership", "0::/\n"), groups.put("/cpu.max", "200000 100000\n"), expected = 2;
  }
  SECTION("version 1") {
    groups.put("/membership", "5:cpuset:/s\n4:cpuacct,cpu:/a/b\n1:name=systemd:/\n0::/none\n");
    SECTION("without a quota") {
      groups.put("/cpu/a/b/cpu.cfs_quota_us", "-1\n"), groups.put("/cpu/a/b/cpu.cfs_period_us", "100000\n");
    }
    SECTION("its own") {
      groups.put("/cpu/a/b/cpu.cfs_quota_us", "250000\n"), groups.put("/cpu/a/b/cpu.cfs_period_us", "100000\n");
      expected = 2;
    }
    SECTION("that of a container, which does not see its path") {
      groups.put("/cpu/cpu.cfs_quota_us", "600000\n"), groups.put("/cpu/cpu.cfs_period_us", "100000\n");
      expected = 6;
    }
  }
  SECTION("a path that is too long") { groups.put("/membership", "0::/" + std::string(5000, 'x') + "\n"); }
  CHECK(groups.quota() == expected);
  CHECK(groups.usable() == std::min(expected, detail::allowed_cpus<0>()));
}

TEST_CASE("guest: executors that say strange things of themselves", "[guest]") {
  const auto said = GENERATE(0, -1, std::numeric_limits<index_t>::min(), 3);
  CAPTURE(said);
  using strange     = cpu<compiled_isa, strange_executor>;
  using serial      = cpu<compiled_isa, serial_executor>;
  const auto tokens = make_tokens<float>(kind::clustered, 300, 40, 1);

  SECTION("selection") {
    const auto               validate = GENERATE(validation::exact, validation::cross_gram);
    cascade<float, strange>  walk({.validate = validate}, {{said}});
    cascade<float, serial>   expected({.validate = validate});
    selector<float, strange> literal({}, {{said}});
    for (int layer = 0; layer < 2; ++layer) {
      REQUIRE(walk.step(tokens.view()) == status::ok);
      REQUIRE(expected.step(tokens.view()) == status::ok);
      CHECK(to_vector(walk.kept().rep) == to_vector(expected.kept().rep));
    }
    REQUIRE(literal.literal(tokens.view()) == status::ok);
    CHECK(to_vector(literal.kept().rep) == to_vector(expected.kept().rep));
  }
  SECTION("attention") {
    constexpr index_t T = 150;
    const auto        m = GENERATE(from_range(modes));
    CAPTURE(m);
    const problem<float>      p({T, 4, 2, 16, 8}, 1);
    const selection           kept = random_selection(T, 0.3, 1);
    const representatives     one  = kept.view();
    head_rows<float>          out(T, 4, 8), expected(T, 4, 8);
    attention<float, strange> attend(m.options, {{said}});
    attention<float, serial>  plain(m.options);
    REQUIRE(attend(p.q.view(), p.kv(), one, out.view()) == status::ok);
    REQUIRE(plain(p.q.view(), p.kv(), one, expected.view()) == status::ok);
    bool same = true;
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < 4; ++h)
        same &= std::equal(out.view().row(t, h), out.view().row(t, h) + 8, expected.view().row(t, h));
    CHECK(same);
  }
}
