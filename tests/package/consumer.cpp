// What a user writes first: it includes the library, selects, walks, attends, and looks at the result. Others' headers
// come first, as in a program that was there before. CONSUME: a name other than main, for a part of a program.

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <Eigen/Core>
#include <bit>
#include <cascada/cascada.hpp>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#ifdef CONSUME
int CONSUME();
#else
#define CONSUME main
#endif

__attribute__((visibility("default"))) int CONSUME() {
  const std::string version = std::to_string(CASCADA_VERSION_MAJOR) + "." + std::to_string(CASCADA_VERSION_MINOR) +
                              "." + std::to_string(CASCADA_VERSION_PATCH);
  if (version != FOUND_VERSION) return 1;

  constexpr cascada::index_t T = 64, d = 16;
  std::vector<float>         memory(static_cast<std::size_t>(T) * d), out(memory.size());
  for (cascada::index_t t = 0; t < T; ++t) memory[static_cast<std::size_t>(t * d + t % 7)] = 1.0f;

  const cascada::matrix_view<const float> x{memory.data(), T, d, d};
  cascada::selector<float>                select({.threshold = 0.8f});
  cascada::cascade<float>                 walk({.threshold = 0.8f});
  if (select(x) != cascada::status::ok) return 1;
  for (int layer = 0; layer < 2; ++layer)
    if (walk.step(x) != cascada::status::ok || walk.kept().count() != select.kept().count()) return 1;

  const cascada::heads_view<const float> rows = cascada::packed_heads<const float>(memory.data(), T, 2, d / 2);
  const cascada::strided_kv<float>       kv{rows, rows};
  cascada::attention<float>              attend;
  if (attend(rows, kv, walk.kept(), cascada::packed_heads(out.data(), T, 2, d / 2)) != cascada::status::ok) return 1;

  std::uint64_t hash = 0xcbf2'9ce4'8422'2325u;  // FNV-1a
  for (const float value : out) hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100'0000'01b3u;
  std::printf("%d of %d tokens kept, out[0] = %g, out = %016llx\n", walk.kept().count(), T, static_cast<double>(out[0]),
              static_cast<unsigned long long>(hash));
  // Seven different rows; token 0 sees itself alone.
  return walk.kept().count() == 7 && out[0] == 1.0f ? 0 : 1;
}
