// The counter, and the functions that -fsanitize=thread calls. Compiled without it.

#include "hip/traffic_counter.hpp"

#include <vector>

namespace traffic {
namespace {

/// When a line was last touched, by number of step, launch and block.
struct last_touch {
  std::uint32_t step = 0, launch = 0, block = 0;
};

struct region {
  std::uintptr_t          begin, end;
  std::vector<last_touch> lines[2];  // reads, writes
};

std::vector<region> regions;
std::uint32_t       step = 0, launch = 0, block = 0;
int                 current = -1;
bytes_moved         total;

void touch(const void* address, std::size_t bytes, int kind) {
  const auto from = reinterpret_cast<std::uintptr_t>(address);
  for (region& r : regions) {
    if (from < r.begin || from >= r.end) continue;
    for (std::size_t l = (from - r.begin) / line; l <= (from + bytes - 1 - r.begin) / line; ++l) {
      last_touch& last = r.lines[kind][l];
      total.step += last.step != step ? std::int64_t{line} : 0;
      total.launch += last.launch != launch ? std::int64_t{line} : 0;
      total.block += last.block != block ? std::int64_t{line} : 0;
      last = {step, launch, block};
    }
    return;
  }
}

}  // namespace

void track(const void* begin, std::size_t bytes) {
  const auto from         = reinterpret_cast<std::uintptr_t>(begin) / line * line,
             end          = reinterpret_cast<std::uintptr_t>(begin) + bytes;
  const std::size_t lines = (end - from + line - 1) / line;
  regions.push_back({from, end, {std::vector<last_touch>(lines), std::vector<last_touch>(lines)}});
}
void untrack(const void* begin) {
  const auto from = reinterpret_cast<std::uintptr_t>(begin) / line * line;
  std::erase_if(regions, [&](const region& r) { return r.begin == from; });
}
void forget() { regions.clear(); }

void begin_step() { ++step, total = {}; }
void begin_launch() { ++launch, ++block, current = -1; }
void enter_block(int number) {
  if (number != current) ++block, current = number;
}
bytes_moved moved() { return total; }

}  // namespace traffic

extern "C" {
#define ACCESS(bytes)                                                         \
  void __tsan_read##bytes(void* a) { traffic::touch(a, bytes, 0); }           \
  void __tsan_write##bytes(void* a) { traffic::touch(a, bytes, 1); }          \
  void __tsan_unaligned_read##bytes(void* a) { traffic::touch(a, bytes, 0); } \
  void __tsan_unaligned_write##bytes(void* a) { traffic::touch(a, bytes, 1); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
#undef ACCESS
void __tsan_read_range(void* a, std::size_t bytes) {
  if (bytes > 0) traffic::touch(a, bytes, 0);
}
void __tsan_write_range(void* a, std::size_t bytes) {
  if (bytes > 0) traffic::touch(a, bytes, 1);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
#define ATOMIC(bits, type)                                                                                     \
  type __tsan_atomic##bits##_load(const type* a, int) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }         \
  void __tsan_atomic##bits##_store(type* a, type value, int) { __atomic_store_n(a, value, __ATOMIC_SEQ_CST); } \
  type __tsan_atomic##bits##_fetch_add(type* a, type value, int) {                                             \
    return __atomic_fetch_add(a, value, __ATOMIC_SEQ_CST);                                                     \
  }
ATOMIC(8, char)
ATOMIC(32, int)
ATOMIC(64, long)
#undef ATOMIC
}
