// bfloat16: exact to float, rounded to nearest even from float. All of it, not a sample.

#include "cascada/scalar.hpp"

#include <bit>
#include <cstdint>
#include <type_traits>

#include "catch.hpp"

using namespace cascada;

namespace {

constexpr std::uint32_t sign = 0x8000'0000u, infinity = 0x7f80'0000u, quiet = 0x0040'0000u;

std::uint32_t rounded(std::uint32_t bits) { return from_float<bfloat16>(std::bit_cast<float>(bits)).bits; }

static_assert(row_scalar<float> && row_scalar<bfloat16>);
static_assert(!row_scalar<double> && !row_scalar<const float> && !row_scalar<std::uint16_t>);
static_assert(sizeof(bfloat16) == 2 && std::is_trivially_copyable_v<bfloat16> && std::is_standard_layout_v<bfloat16>);
static_assert(to_float(from_float<bfloat16>(-1.5f)) == -1.5f && from_float<float>(0.1f) == 0.1f);

}  // namespace

TEST_CASE("scalar: every bfloat16 is a float and comes back", "[scalar]") {
  int wrong = 0;
  for (std::uint32_t b = 0; b <= 0xffffu; ++b) {
    const auto value    = std::bit_cast<std::uint32_t>(to_float(bfloat16{static_cast<std::uint16_t>(b)}));
    const bool is_nan   = (value & ~sign) > infinity;
    const auto expected = is_nan ? (value | quiet) >> 16 : b;
    wrong += value != b << 16 || rounded(value) != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("scalar: between two neighbours the nearer one, half way the even one", "[scalar]") {
  // Up to and past the largest finite value, which rounds to infinity like any other IEEE format.
  int wrong = 0;
  for (std::uint32_t b = 0; b < infinity >> 16; ++b)
    for (const std::uint32_t s : {0u, sign >> 16}) {
      const std::uint32_t low = (b | s) << 16, even = (b | s) + (b & 1u);
      wrong += rounded(low + 0x0001u) != (b | s) || rounded(low + 0x7fffu) != (b | s);
      wrong += rounded(low + 0x8000u) != even;
      wrong += rounded(low + 0x8001u) != (b | s) + 1 || rounded(low + 0xffffu) != (b | s) + 1;
    }
  CHECK(wrong == 0);
}

TEST_CASE("scalar: a NaN stays a NaN of its sign, whichever bits it has", "[scalar]") {
  const auto payload = GENERATE(0x1u, 0xffffu, 0x1'0000u, 0x40'0000u, 0x7f'ffffu);
  const auto s       = GENERATE(0u, sign);
  CAPTURE(payload, s);
  const std::uint32_t bits = rounded(s | infinity | payload) << 16;
  CHECK((bits & ~sign) > infinity);
  CHECK((bits & sign) == s);
  CHECK((bits & quiet) != 0);
}
