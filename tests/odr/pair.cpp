// Both halves in one program: the same sets, bit for bit, and the same attention but for rounding.

#include <cmath>
#include <cstdio>
#include <cstring>

#include "part.hpp"

namespace {

// The halves sum in different orders, and only one fuses: of sums of at most 150 terms below 1 each, in float.
constexpr float tolerance = 1e-5f;

template <int Count>
bool close(const float (&a)[Count], const float (&b)[Count]) {
  float largest = 0;
  for (int i = 0; i < Count; ++i) largest = std::fmax(largest, std::fabs(a[i] - b[i]));
  std::printf("largest difference %g\n", static_cast<double>(largest));
  return largest < tolerance;
}

}  // namespace

int main() {
  static part_result plain, avx512;
  if (!run_plain(plain) || !run_avx512(avx512)) return std::puts("a stage failed"), 1;
  int kept = 0;
  for (int t = 0; t < part_result::tokens; ++t) kept += plain.selected[t] == t;
  std::printf("%d of %d tokens kept\n", kept, part_result::tokens);
  if (kept < 2 || kept > part_result::tokens - 2) return std::puts("the data decides nothing"), 1;

  const bool same = !std::memcmp(plain.selected, avx512.selected, sizeof plain.selected) &&
                    !std::memcmp(plain.literal, avx512.literal, sizeof plain.literal) &&
                    !std::memcmp(plain.walked, avx512.walked, sizeof plain.walked) &&
                    !std::memcmp(plain.narrow, avx512.narrow, sizeof plain.narrow);
  if (!same) return std::puts("the sets differ"), 1;
  std::printf("%lld leaves, %lld tokens of open ones\n", plain.leaves, plain.opened);
  if (plain.opened == 0 || plain.opened == plain.computed) return std::puts("the leaves decide nothing"), 1;
  if (plain.leaves != avx512.leaves || plain.opened != avx512.opened || plain.computed != avx512.computed)
    return std::puts("the leaves, or those that open, differ"), 1;
  const bool near = close(plain.attended, avx512.attended) & close(plain.grouped, avx512.grouped) &
                    close(plain.compressed, avx512.compressed);
  return near ? 0 : 1;
}
