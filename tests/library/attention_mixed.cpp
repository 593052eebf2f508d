// Queries of float with keys and values of two bytes: what their floats give, bit for bit. And KV heads that are one.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Rows of floats whose keys and values the narrow type has as well, and those.
template <class Narrow>
struct both {
  problem<float>  wide;
  problem<Narrow> narrow;

  explicit both(const shape& size) : wide(size, 3), narrow(size, 3) {
    for (auto [from, to] : {std::pair{&narrow.k, &wide.k}, std::pair{&narrow.v, &wide.v}}) {
      auto packed = from->template packed<float>();
      auto next   = packed.begin();
      to->fill([&] { return *next++; });
    }
  }
};

static_assert(kv_view_for<strided_kv<float16>, float> && kv_view_for<paged_kv<bfloat16>, float>);
static_assert(kv_view_for<strided_kv<bfloat16>, bfloat16> && !kv_view_for<strided_kv<float16>, bfloat16>);
static_assert(!kv_view_for<strided_kv<float>, float16>);

}  // namespace

TEMPLATE_TEST_CASE("mixed: queries of float with narrow keys and values, in every layout", "[attention]", bfloat16,
                   float16) {
  const mode m = GENERATE(from_range(sample(modes)));
  CAPTURE(m);
  const both<TestType>         p({130, 6, 2, 20, 33});
  const std::vector<selection> s        = {random_selection(130, 0.3, 1)};
  const auto                   expected = attend<float>(m.options, p.wide, p.wide.kv(), s);
  CHECK(same_bits(expected, attend<float>(m.options, p.wide, p.narrow.kv(), s)));
  CHECK(same_bits(expected, attend<float>(m.options, p.wide, transposed_copy<TestType>(p.narrow).view, s)));
  const paged_copy<TestType> paged(p.narrow, 7);
  CHECK(same_bits(expected, attend<float>(m.options, p.wide, paged.view, s)));
  thread_pool<compiled_isa> pool(3);
  CHECK(same_bits(expected, attend<float>(m.options, p.wide, p.narrow.kv(), s, {}, test_backend{{&pool}})));
}

TEMPLATE_TEST_CASE("mixed: a sequence that grows", "[attention]", bfloat16, float16) {
  const auto all = modes_that_grow();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const index_t                        T = 150;
  const both<TestType>                 p({T, 4, 2, 16, 24});
  const std::vector<selection>         s        = {random_selection(T, 0.2, 2)};
  const auto                           expected = attend<float>(m.options, p.wide, p.wide.kv(), s);
  attention<float, test_backend>       attend(m.options);
  attention_state<float, test_backend> state;
  head_rows<float>                     out(T, 4, 24);
  for (index_t begin = 0, end = 0; begin < T; begin = end) {
    end = begin < 100 ? 100 : begin + 1;
    REQUIRE(extend_to(end, attend, state, p.wide.q, p.narrow.kv(), views(s), out) == status::ok);
  }
  CHECK(same_bits(out.packed<float>(), expected));
}

TEST_CASE("mixed: vectors of every float16 are the floats that one by one are", "[scalar]") {
  using B = test_backend;
  using V = kernel::vec<B>;
  std::vector<float16> all(65536 + 16);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) all[bits].bits = static_cast<std::uint16_t>(bits);
  int wrong = 0;
  for (std::size_t first = 0; first < 65536; first += static_cast<std::size_t>(V::width)) {
    float lanes[V::width];
    kernel::load_floats<B>(all.data() + first).store(lanes);
    for (std::size_t i = 0; i < static_cast<std::size_t>(V::width); ++i)
      wrong += std::bit_cast<std::uint32_t>(lanes[i]) != std::bit_cast<std::uint32_t>(to_float(all[first + i]));
  }
  CHECK(wrong == 0);
  CHECK(std::bit_cast<std::uint32_t>(to_float(float16{0xfc01})) == 0xffc0'2000u);  // a NaN that signals becomes quiet
  CHECK(std::bit_cast<std::uint32_t>(to_float(float16{0x7e03})) == 0x7fc0'6000u);
  CHECK(to_float(float16{0x0001}) == 0x1p-24f);
  CHECK(to_float(float16{0xfc00}) == -std::numeric_limits<float>::infinity());
}

TEMPLATE_TEST_CASE("mixed: KV heads that share their rows, head_stride 0", "[attention]", float, bfloat16) {
  const mode m = GENERATE(from_range(sample(modes)));
  CAPTURE(m);
  problem<TestType> p({130, 6, 3, 20, 33}, 4);
  for (index_t t = 0; t < 130; ++t)
    for (index_t h = 1; h < 3; ++h)
      for (auto* rows : {&p.k, &p.v}) std::copy_n(rows->view().row(t, 0), rows->view().dim, rows->view().row(t, h));
  auto shared                    = p.kv();
  shared.keys.head_stride        = 0;
  shared.values.head_stride      = 0;
  const std::vector<selection> s = {random_selection(130, 0.3, 1)};
  CHECK(same_bits(attend(m.options, p, s), attend<TestType>(m.options, p, shared, s)));
}
