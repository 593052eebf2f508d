#pragma once
// How many CPUs the process may use: not those of the machine, where an affinity mask or a quota leaves it fewer.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "cascada/config.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// CPUs that the scheduler lets the calling thread run on, and with it the threads it makes; else those of the machine.
template <auto Key>
index_t allowed_cpus() noexcept {
#ifdef __linux__
  cpu_set_t sets[8] = {};  // as many as a kernel can be built for
  if (sched_getaffinity(0, sizeof sets, sets) == 0) return CPU_COUNT_S(sizeof sets, sets);
#endif
  const auto all = static_cast<index_t>(std::thread::hardware_concurrency());
  return all < 1 ? 1 : all;
}

/// Reads up to two numbers from a file of a folder; returns how many there are. Nothing is allocated by name.
template <auto Key>
int read_numbers(const char* folder, const char* file, long long* numbers) noexcept {
  char name[4096];
  if (std::snprintf(name, sizeof name, "%s/%s", folder, file) >= static_cast<int>(sizeof name)) return 0;
  std::FILE* opened = std::fopen(name, "re");
  if (!opened) return 0;
  const int read = std::fscanf(opened, "%lld %lld", numbers, numbers + 1);
  std::fclose(opened);
  return read;
}

/// The least quota of a control group and of those around it, in whole CPUs; the largest number where there is none.
/// The group lies at `path` below root + hierarchy.
template <auto Key>
index_t quota_of_group(const char* root, const char* hierarchy, const char* path) noexcept {
  auto      least = static_cast<long long>(std::numeric_limits<index_t>::max());
  char      folder[2048];
  const int written = std::snprintf(folder, sizeof folder, "%s%s%s", root, hierarchy, path);
  if (written < 0 || written >= static_cast<int>(sizeof folder)) return static_cast<index_t>(least);
  for (const std::size_t top = std::strlen(root) + std::strlen(hierarchy);;) {
    long long times[2] = {};  // microseconds of CPU time in each period of so many
    if (read_numbers<Key>(folder, "cpu.max", times) != 2 &&
        (read_numbers<Key>(folder, "cpu.cfs_quota_us", times) != 1 ||
         read_numbers<Key>(folder, "cpu.cfs_period_us", times + 1) < 1))
      times[0] = 0;
    if (times[0] > 0 && times[1] > 0) {
      const long long whole = times[0] < times[1] ? 1 : times[0] / times[1];
      least                 = whole < least ? whole : least;
    }
    char* last = std::strrchr(folder, '/');
    if (!last || static_cast<std::size_t>(last - folder) < top) return static_cast<index_t>(least);
    *last = '\0';
  }
}

/// The least quota of the process's control groups, in whole CPUs; the largest number where there is none. `membership`
/// has a line "number:controllers:path" for each hierarchy; version 2's has no controllers and lies at the root.
template <auto Key>
index_t quota_cpus(const char* membership, const char* root) noexcept {
  index_t    least  = std::numeric_limits<index_t>::max();
  std::FILE* opened = std::fopen(membership, "re");
  if (!opened) return least;
  char line[2048], list[sizeof line + 2];
  while (std::fgets(line, sizeof line, opened)) {
    char* controllers = std::strchr(line, ':');
    char* path        = controllers ? std::strchr(controllers + 1, ':') : nullptr;
    if (!path) continue;
    *controllers++                 = '\0';
    *path++                        = '\0';
    path[std::strcspn(path, "\n")] = '\0';
    std::snprintf(list, sizeof list, ",%s,", controllers);
    const bool unified = *controllers == '\0';
    if (!unified && !std::strstr(list, ",cpu,")) continue;
    const index_t quota = quota_of_group<Key>(root, unified ? "" : "/cpu", path);
    least               = quota < least ? quota : least;
  }
  std::fclose(opened);
  return least;
}

/// CPUs that affinity mask and quotas leave: at least one. `Key` keeps differently compiled instances apart.
template <auto Key>
index_t usable_cpus(const char* membership = "/proc/self/cgroup", const char* root = "/sys/fs/cgroup") noexcept {
  const index_t allowed = allowed_cpus<Key>(), quota = quota_cpus<Key>(membership, root);
  const index_t least = quota < allowed ? quota : allowed;
  return least < 1 ? 1 : least;
}

}  // namespace cascada::inline CASCADA_ABI::detail
