// Runs a program compiled for instructions that this CPU may lack:
//
//   if_cpu_has avx2 fma -- program arguments...
//
// Exits with 77 (skipped) if the CPU lacks one of them. A process of its own, because such a program could already
// fail before its main function.

#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace {

bool cpu_has([[maybe_unused]] const char* name) {
#if defined(__x86_64__)
  if (!std::strcmp(name, "avx2")) return __builtin_cpu_supports("avx2");
  if (!std::strcmp(name, "fma")) return __builtin_cpu_supports("fma");
  if (!std::strcmp(name, "avx512f")) return __builtin_cpu_supports("avx512f");
  if (!std::strcmp(name, "avx512bw")) return __builtin_cpu_supports("avx512bw");
  if (!std::strcmp(name, "avx512dq")) return __builtin_cpu_supports("avx512dq");
  if (!std::strcmp(name, "avx512vl")) return __builtin_cpu_supports("avx512vl");
#endif
  return false;
}

}  // namespace

int main(int, char** argument) {
  while (*++argument && std::strcmp(*argument, "--"))
    if (!cpu_has(*argument)) {
      std::printf("skipped: this CPU has no %s\n", *argument);
      return 77;
    }
  if (*argument && *++argument) execv(*argument, argument);
  std::perror("if_cpu_has");
  return 1;
}
