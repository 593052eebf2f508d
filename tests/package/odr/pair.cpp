// Both halves in one program: the same sets, bit for bit, and the same attention but for rounding.

#include <cmath>
#include <cstdio>
#include <cstring>

#include "part.hpp"

namespace {

// The halves may sum in different orders, and one alone may fuse: of sums of at most 150 terms below 1 each, in float.
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
  static part_result first, second;
  if (!run_first(first) || !run_second(second)) return std::puts("a stage failed"), 1;
  int kept = 0;
  for (int t = 0; t < part_result::tokens; ++t) kept += first.selected[t] == t;
  std::printf("%d of %d tokens kept\n", kept, part_result::tokens);
  if (kept < 2 || kept > part_result::tokens - 2) return std::puts("the data decides nothing"), 1;

  const bool same = !std::memcmp(first.selected, second.selected, sizeof first.selected) &&
                    !std::memcmp(first.literal, second.literal, sizeof first.literal) &&
                    !std::memcmp(first.walked, second.walked, sizeof first.walked) &&
                    !std::memcmp(first.narrow, second.narrow, sizeof first.narrow) &&
                    !std::memcmp(first.grown_set, first.selected, sizeof first.selected) &&
                    !std::memcmp(second.grown_set, second.selected, sizeof second.selected);
  if (!same) return std::puts("the sets differ"), 1;
  std::printf("%lld leaves, %lld tokens of open ones\n", first.leaves, first.opened);
  if (first.opened == 0 || first.opened == first.computed) return std::puts("the leaves decide nothing"), 1;
  if (first.leaves != second.leaves || first.opened != second.opened || first.computed != second.computed)
    return std::puts("the leaves, or those that open, differ"), 1;
  const bool near = close(first.attended, second.attended) & close(first.grown, second.grown) &
                    close(first.grouped, second.grouped) & close(first.compressed, second.compressed) &
                    close(first.terms, second.terms);
  return near ? 0 : 1;
}
