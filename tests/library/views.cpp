// Views: plain structs, addresses in 64 bits, one head of a buffer as a matrix.

#include "cascada/views.hpp"

#include <cstdint>
#include <type_traits>
#include <vector>

#include "catch.hpp"

using namespace cascada;

namespace {

template <class View>
constexpr bool is_plain =
    std::is_trivially_copyable_v<View> && std::is_standard_layout_v<View> && std::is_aggregate_v<View>;

static_assert(is_plain<matrix_view<float>> && is_plain<heads_view<const float>>);
static_assert(std::is_convertible_v<matrix_view<float>, matrix_view<const float>>);
static_assert(std::is_convertible_v<heads_view<float>, heads_view<const float>>);
static_assert(!std::is_convertible_v<matrix_view<const float>, matrix_view<float>>);
static_assert(!std::is_convertible_v<heads_view<const float>, heads_view<float>>);

}  // namespace

TEST_CASE("views: rows of a padded matrix", "[views]") {
  const auto cols = GENERATE(1, 4), padding = GENERATE(0, 3);
  CAPTURE(cols, padding);
  std::vector<float>             memory(64);
  const matrix_view<float>       v{memory.data(), 5, cols, cols + padding};
  const matrix_view<const float> fixed = v;
  for (index_t i = 0; i < v.rows; ++i) CHECK(v.row(i) == memory.data() + i * (cols + padding));
  CHECK(fixed.row(3) == v.row(3));
  CHECK(fixed.rows == v.rows);
  CHECK(fixed.cols == v.cols);
  CHECK(fixed.stride == v.stride);
}

TEST_CASE("views: heads in either order of tokens and heads", "[views]") {
  constexpr index_t  tokens = 3, heads = 4, dim = 2;
  std::vector<float> memory(tokens * heads * dim);
  const auto         packed = packed_heads(memory.data(), tokens, heads, dim);
  heads_view<float>  swapped{memory.data(), tokens, heads, dim, dim, tokens * dim};
  for (index_t t = 0; t < tokens; ++t)
    for (index_t h = 0; h < heads; ++h) {
      CHECK(packed.row(t, h) - memory.data() == (t * heads + h) * dim);
      CHECK(swapped.row(t, h) - memory.data() == (h * tokens + t) * dim);
    }
  const heads_view<const float> fixed = swapped;
  CHECK(fixed.row(2, 3) == swapped.row(2, 3));
  CHECK(fixed.tokens == tokens);
  CHECK(fixed.heads == heads);
  CHECK(fixed.dim == dim);
}

TEST_CASE("views: one head is a matrix, not a copy", "[views]") {
  constexpr index_t  tokens = 3, heads = 4, dim = 2;
  std::vector<float> memory(tokens * heads * dim);
  const auto         packed = packed_heads(memory.data(), tokens, heads, dim);
  for (index_t h = 0; h < heads; ++h) {
    const matrix_view<float> head{packed.row(0, h), tokens, dim, packed.token_stride};
    for (index_t t = 0; t < tokens; ++t) CHECK(head.row(t) == packed.row(t, h));
  }
}

TEST_CASE("views: offsets beyond 32 bits", "[views]") {
  // Addresses only: nothing is read.
  char                   byte = 0;
  constexpr std::int64_t far  = std::int64_t{1} << 32;
  const auto             at   = [&](const char* row) {
    return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(row) - reinterpret_cast<std::uintptr_t>(&byte));
  };
  CHECK(at(matrix_view<const char>{&byte, 4, 8, far}.row(3)) == 3 * far);
  CHECK(at(heads_view<const char>{&byte, 4, 2, 8, far, 8}.row(3, 1)) == 3 * far + 8);
  CHECK(at(heads_view<const char>{&byte, 4, 2, 8, 8, far}.row(3, 1)) == far + 24);
  // Sizes whose product does not fit 32 bits.
  CHECK(packed_heads(&byte, 1, 1 << 20, 1 << 20).token_stride == std::int64_t{1} << 40);
}
