#pragma once
// Counts the lines of global memory that kernels touch.
//
// traffic.cpp is compiled with -fsanitize=thread and linked without: the compiler calls a function before each
// access to memory, and these functions are the counter's. So every address counts, whatever helper or pointer it came
// from.

#include <cstddef>
#include <cstdint>

namespace traffic {

inline constexpr std::size_t line = 128;  // bytes of a cache line of the chip

/// Bytes of distinct lines; a line that is read and written counts for both.
struct bytes_moved {
  std::int64_t step   = 0;  // each line once, however many launches touch it: the caches hold what a step needs
  std::int64_t launch = 0;  // each line once a launch: nothing stays in the caches from launch to launch
  std::int64_t block  = 0;  // each line once a block: what leaves the second-level cache for the compute units
};

/// Global memory: [begin, begin + bytes) counts from now on.
void track(const void* begin, std::size_t bytes);
void untrack(const void* begin);  // what is released, since others get its addresses
void forget();                    // all of it

void begin_step();
void begin_launch();
void enter_block(int block);  // by each of its threads, before anything else

bytes_moved moved();  // since the step began

}  // namespace traffic
