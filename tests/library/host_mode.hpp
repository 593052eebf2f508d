#pragma once
// Arithmetic that a host may have turned on for one of its threads.

#include <cstdint>
#include <utility>

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

namespace tests {

/// The control register, without exception flags where it has them.
#if defined(__x86_64__)
using control_word = std::uint32_t;
inline control_word control() { return _mm_getcsr() & ~0x3fu; }
inline void         set_control(control_word word) { _mm_setcsr(word); }

inline constexpr std::pair<const char*, control_word> host_modes[] = {{"down", 0x3f80},
                                                                      {"up", 0x5f80},
                                                                      {"to zero", 0x7f80},
                                                                      {"results flushed", 0x9f80},
                                                                      {"operands taken for zero", 0x1fc0},
                                                                      {"as -ffast-math has it", 0x9fc0}};
#else
using control_word = std::uint64_t;
inline control_word control() {
  control_word word = 0;
  asm volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
inline void set_control(control_word word) { asm volatile("msr fpcr, %0" ::"r"(word) : "memory"); }

inline constexpr std::pair<const char*, control_word> host_modes[] = {
    {"up", 1u << 22}, {"down", 2u << 22}, {"to zero", 3u << 22}, {"as -ffast-math has it", 1u << 24}};
#endif

/// A thread's arithmetic while it lives.
class host_mode {
 public:
  explicit host_mode(control_word word) : before_(control()) { set_control(word); }
  ~host_mode() { set_control(before_); }
  host_mode(const host_mode&)            = delete;
  host_mode& operator=(const host_mode&) = delete;

 private:
  control_word before_;
};

}  // namespace tests
