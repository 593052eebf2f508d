#pragma once
// The arithmetic that verdicts assume of a thread: rounding to nearest, subnormals kept, no traps.
//
// A host may have it otherwise on some of its threads: a shared object linked with -ffast-math turns subnormals off
// where it is loaded, and threads made later inherit that. The same pair would then get another verdict on another
// thread.

#include <cstdint>

#include "cascada/backend.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// While it lives, this thread has that arithmetic; then what it had before, exception flags included. Where it has it
/// already, which costs a read of the control register, nothing is set.
template <cpu_backend B>
class float_environment {
 public:
  CASCADA_INLINE float_environment() noexcept : before_(read()) {
    if ((before_ & control) != usual) write(usual);
  }
  CASCADA_INLINE ~float_environment() {
    if ((before_ & control) != usual) write(before_);
  }

  float_environment(const float_environment&)            = delete;
  float_environment& operator=(const float_environment&) = delete;

 private:
  // Memory is named as changed, so that no load or store, and with them no sum, moves to the other side.
#if defined(__SSE__)
  using word                         = std::uint32_t;
  static constexpr word      control = 0xffc0, usual = 0x1f80;  // MXCSR without its exception flags
  CASCADA_INLINE static word read() noexcept {
    word value = 0;
    asm volatile("stmxcsr %0" : "=m"(value)::"memory");
    return value;
  }
  CASCADA_INLINE static void write(word value) noexcept { asm volatile("ldmxcsr %0" ::"m"(value) : "memory"); }
#elif defined(__aarch64__)
  using word                         = std::uint64_t;
  static constexpr word      control = ~word{0}, usual = 0;  // FPCR
  CASCADA_INLINE static word read() noexcept {
    word value = 0;
    asm volatile("mrs %0, fpcr" : "=r"(value)::"memory");
    return value;
  }
  CASCADA_INLINE static void write(word value) noexcept { asm volatile("msr fpcr, %0" ::"r"(value) : "memory"); }
#else  // the host has to see to it
  using word                         = std::uint32_t;
  static constexpr word      control = 0, usual = 0;
  CASCADA_INLINE static word read() noexcept { return 0; }
  CASCADA_INLINE static void write(word) noexcept {}
#endif

  word before_;
};

/// An executor's parallel_for, in that arithmetic on every thread.
template <cpu_backend B, executor Executor, class Function>
CASCADA_INLINE void parallel_for(const Executor& where, index_t count, const Function& function) {
  where.parallel_for(count, [&](index_t i) {
    const float_environment<B> usual;
    function(i);
  });
}

}  // namespace cascada::inline CASCADA_ABI::kernel
