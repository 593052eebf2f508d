// Keys and values that are computed, of ggml's Q8_0 and of a caller's own: what the floats that they stand for give,
// bit for bit.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "attention_data.hpp"
#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "not_finite.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// A caller's own: 48 numbers of four bits, and the exponent of what they are times.
struct own_block {
  static constexpr index_t elements = 48;

  std::uint8_t  halves[elements / 2] = {};
  std::uint16_t exponent             = 0;

  float operator[](index_t c) const noexcept {
    const int number = (halves[c / 2] >> (c % 2 * 4) & 15) - 8;
    return std::bit_cast<float>(std::uint32_t{exponent} << 23) * (static_cast<float>(number) + 0.25f);
  }
  void load(index_t c, index_t count, float* to) const noexcept {
    for (index_t i = 0; i < count; ++i) to[i] = (*this)[c + i];
  }
  static own_block of(const float* from) noexcept {
    own_block block;
    block.exponent = 125;
    for (index_t c = 0; c < elements; ++c) {
      const int number = std::clamp(static_cast<int>(from[c] * 4) + 8, 0, 15);
      block.halves[c / 2] |= static_cast<std::uint8_t>(number << (c % 2 * 4));
    }
    return block;
  }
};

static_assert(row_block<q8_0_block> && row_block<own_block> && !row_block<float> && !row_block<float16>);
static_assert(computed_row<block_row<q8_0_block>> && computed_row<block_row<own_block>>);
static_assert(!computed_row<strided_row<float>> && !kv_row<q8_0_block>);
static_assert(kv_view_for<strided_kv<q8_0_block>, float> && kv_view_for<paged_kv<q8_0_block>, float>);
static_assert(!kv_view_for<strided_kv<q8_0_block>, bfloat16> && !kv_view_for<strided_kv<q8_0_block>, float16>);
template <class Stored>
concept can_be_transposed = requires { typename transposed_value_kv<Stored>; };
static_assert(can_be_transposed<float16> && !can_be_transposed<q8_0_block>);

/// Heads [tokens, heads, dim] of blocks, off any boundary that they do not need, with gaps of NaN. `dim` in blocks.
template <row_block Block>
class block_rows {
 public:
  block_rows(index_t tokens, index_t heads, index_t dim) : tokens_(tokens), heads_(heads), dim_(dim) {
    Block nothing;
    std::memset(static_cast<void*>(&nothing), 0x7f, sizeof nothing);  // of Q8_0: NaN
    storage_.assign(1 + static_cast<std::size_t>(tokens) * static_cast<std::size_t>(token_stride()), nothing);
  }

  heads_view<Block>       view() { return {storage_.data() + 1, tokens_, heads_, dim_, token_stride(), dim_ + 1}; }
  heads_view<const Block> view() const {
    return {storage_.data() + 1, tokens_, heads_, dim_, token_stride(), dim_ + 1};
  }

 private:
  std::int64_t token_stride() const { return std::int64_t{heads_} * (dim_ + 1) + 1; }

  index_t            tokens_, heads_, dim_;
  std::vector<Block> storage_;
};

/// Blocks, and the problem of the floats that they stand for.
template <row_block Block>
struct computed {
  static constexpr index_t elements = Block::elements;

  problem<float>    floats;
  block_rows<Block> keys, values;

  explicit computed(const shape& s, unsigned seed = 3)
      : floats(s, seed),
        keys(s.tokens, s.kv_heads, s.key_dim / elements),
        values(s.tokens, s.kv_heads, s.value_dim / elements) {
    store(floats.k, keys), store(floats.v, values);
  }

  strided_kv<Block> kv() const { return {keys.view(), values.view()}; }

  /// Makes block b of a key or value another one.
  void set(bool of_values, index_t token, index_t head, index_t b, const Block& block) {
    (of_values ? values : keys).view().row(token, head)[b] = block;
    expand(block, (of_values ? floats.v : floats.k).view().row(token, head) + b * elements);
  }

 private:
  static void expand(const Block& block, float* to) {
    for (index_t c = 0; c < elements; ++c) to[c] = block[c];
  }
  static void store(head_rows<float>& from, block_rows<Block>& to) {
    const auto rows = from.view();
    for (index_t t = 0; t < rows.tokens; ++t)
      for (index_t h = 0; h < rows.heads; ++h)
        for (index_t b = 0; b < rows.dim / elements; ++b) {
          float* place           = rows.row(t, h) + b * elements;
          to.view().row(t, h)[b] = Block::of(place);
          expand(to.view().row(t, h)[b], place);
        }
  }
};

/// The same in shuffled pages of a pool.
template <row_block Block>
struct paged_blocks {
  shuffled_blocks   pages;
  block_rows<Block> keys, values;
  paged_kv<Block>   view;

  paged_blocks(const computed<Block>& p, index_t page)
      : pages(p.floats.size.tokens, page),
        keys(pages.pool_tokens, p.floats.size.kv_heads, p.keys.view().dim),
        values(pages.pool_tokens, p.floats.size.kv_heads, p.values.view().dim) {
    pages.spread(p.keys.view(), keys.view()), pages.spread(p.values.view(), values.view());
    view = {std::as_const(keys).view(), std::as_const(values).view(), pages.table, page, p.floats.size.tokens};
  }
};

/// A caller's own view, of Q8_0 keys and float16 values: a row in another format than the other.
struct mixed_kv {
  heads_view<const q8_0_block> keys;
  heads_view<const float16>    values;

  index_t               tokens() const { return keys.tokens; }
  index_t               kv_heads() const { return keys.heads; }
  index_t               key_dim() const { return keys.dim * q8_0_block::elements; }
  index_t               value_dim() const { return values.dim; }
  block_row<q8_0_block> key(index_t t, index_t h) const { return {keys.row(t, h)}; }
  strided_row<float16>  value(index_t t, index_t h) const { return {values.row(t, h)}; }
  status                check() const { return status::ok; }
};
static_assert(kv_view_for<mixed_kv, float> && !kv_view_for<mixed_kv, float16>);

/// Rows that no memory holds whole: an element is the product of a number of its token and one of its column.
struct product_row {
  const float* of_columns = nullptr;
  float        of_token   = 0;

  float operator[](index_t c) const noexcept { return of_token * of_columns[c]; }
  void  load(index_t c, index_t count, float* to) const noexcept {
    for (index_t i = 0; i < count; ++i) to[i] = (*this)[c + i];
  }
  const void* address(index_t c) const noexcept { return of_columns + c; }
};
struct product_kv {
  const problem<float>& from;  // columns: of its token 0

  index_t     tokens() const { return from.size.tokens; }
  index_t     kv_heads() const { return from.size.kv_heads; }
  index_t     key_dim() const { return from.size.key_dim; }
  index_t     value_dim() const { return from.size.value_dim; }
  product_row key(index_t t, index_t h) const { return {from.k.view().row(0, h), static_cast<float>(t % 5) - 2}; }
  product_row value(index_t t, index_t h) const { return {from.v.view().row(0, h), static_cast<float>(t % 7) - 3}; }
  status      check() const { return status::ok; }
};

/// A block with a scale of these bits and numbers of all sizes.
q8_0_block block_of_scale(std::uint16_t bits) {
  q8_0_block block;
  block.scale.bits = bits;
  for (int i = 0; i < 32; ++i) block.values[i] = static_cast<std::int8_t>(i % 5 == 0 ? 0 : i * 37 - 128);
  return block;
}

/// Scales that are zero, subnormal, the largest, infinite, NaN of two kinds, and negative ones.
constexpr std::uint16_t odd_scales[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e01, 0xfd01};

/// However a sequence is cut into calls.
template <class KV>
std::vector<float> in_pieces(const mode& m, const problem<float>& p, const KV& kv, const selection& s, unsigned seed) {
  attention<float, test_backend>       attend(m.options);
  attention_state<float, test_backend> state;
  head_rows<float>                     out(p.size.tokens, p.size.heads, p.size.value_dim);
  const representatives                kept[] = {s.view()};
  std::mt19937                         random(seed);
  while (state.tokens() < p.size.tokens) {
    const auto piece = static_cast<index_t>(random() % 3 == 0 ? random() % 90 : random() % 3) + 1;
    const auto end   = std::min(p.size.tokens, state.tokens() + piece);
    REQUIRE(extend_to(end, attend, state, p.q, kv, kept, out) == status::ok);
  }
  return out.packed<float>();
}

}  // namespace

TEMPLATE_TEST_CASE("computed: in every mode and layout, what the floats give", "[attention]", q8_0_block, own_block) {
  const mode m = GENERATE(from_range(sample(modes)));
  CAPTURE(m);
  const index_t                one = TestType::elements;
  const computed<TestType>     p({130, 6, 2, 2 * one, one});
  const std::vector<selection> s        = {random_selection(130, 0.3, 1)};
  const auto                   expected = attend_and_report<float>(m.options, p.floats, p.floats.kv(), s);
  const auto                   got      = attend_and_report<float>(m.options, p.floats, p.kv(), s);
  CHECK(same_bits(expected.out, got.out));
  CHECK(same_bits(expected.log_sum_exp, got.log_sum_exp));
  CHECK(got.report.opened == expected.report.opened);
  const paged_blocks<TestType> paged(p, 7);
  CHECK(same_bits(expected.out, attend<float>(m.options, p.floats, paged.view, s)));
  thread_pool<compiled_isa> pool(3);
  CHECK(same_bits(expected.out, attend<float>(m.options, p.floats, p.kv(), s, {}, test_backend{{&pool}})));
}

TEST_CASE("computed: Q8_0 against the reference", "[attention]") {
  for (const index_t dim : {64, 96, 128}) {
    CAPTURE(dim);
    const computed<q8_0_block> p({70, 4, 2, dim, 32}, 5);
    const auto                 exact = reference::attention(p.floats.input<double>(), {}, dense_options).out;
    const auto                 got   = attend<float>(dense_options, p.floats, p.kv(), {});
    REQUIRE(got.size() == exact.size());
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i)
      worst = larger(worst, std::fabs(static_cast<double>(got[i]) - exact[i]));
    CHECK(worst < 2e-6);
  }
}

TEMPLATE_TEST_CASE("computed: a sequence that grows, however it is cut", "[attention]", q8_0_block, own_block) {
  const auto all = modes_that_grow();
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  CAPTURE(m);
  const index_t            one = TestType::elements;
  const computed<TestType> p({150, 4, 2, 2 * one, one}, 6);
  const selection          s        = random_selection(150, 0.2, 2);
  const auto               expected = attend<float>(m.options, p.floats, p.floats.kv(), {s});
  for (const unsigned seed : {1u, 2u}) CHECK(same_bits(in_pieces(m, p.floats, p.kv(), s, seed), expected));
}

TEST_CASE("computed: few queries, head dimensions, and rows that a call may read", "[attention]") {
  const mode               m      = GENERATE(from_range(
      sample(std::vector{mode{"dense", dense_options},
                         mode{"opened", {.window = 64, .chunk = 64, .leaf_threshold = 0.3f, .open_above = 0.02f}}})));
  const std::vector<shape> shapes = {
      {560, 6, 2, 96, 64}, {530, 4, 4, 128, 96}, {530, 9, 1, 32, 32}, {530, 40, 8, 32, 128}};
  const shape s = GENERATE_COPY(from_range(sample(shapes)));
  CAPTURE(m, s);
  const computed<q8_0_block> p(s, 7);
  const selection            chosen   = random_selection(s.tokens, 0.15, 4);
  const auto                 expected = attend<float>(m.options, p.floats, p.floats.kv(), {chosen});
  CHECK(same_bits(in_pieces(m, p.floats, p.kv(), chosen, 3), expected));
  CHECK(same_bits(in_pieces(m, p.floats, paged_blocks<q8_0_block>(p, 16).view, chosen, 4), expected));
}

TEST_CASE("computed: scales that are zero, subnormal, infinite or NaN", "[attention][errors]") {
  const mode m =
      GENERATE(mode{"dense", dense_options}, mode{"window", {.keys = key_set::near, .window = 64, .chunk = 64}},
               mode{"opened", {.window = 64, .chunk = 64, .leaf_threshold = 0.3f, .open_above = 0.02f}});
  const std::uint16_t scale     = GENERATE(from_range(sample(odd_scales)));
  const bool          of_values = GENERATE(false, true);
  CAPTURE(m, scale, of_values);
  const index_t        T = 140, odd = 90;
  computed<q8_0_block> p({T, 4, 2, 64, 64}, 8);
  const selection      s      = random_selection(T, 0.2, 5);
  const auto           before = attend<float>(m.options, p.floats, p.kv(), {s});
  p.set(of_values, odd, 1, 1, block_of_scale(scale));
  const auto expected = attend<float>(m.options, p.floats, p.floats.kv(), {s});
  const auto got      = attend<float>(m.options, p.floats, p.kv(), {s});
  CHECK(same_bits(got, expected));
  CHECK(same_bits(in_pieces(m, p.floats, p.kv(), s, 5), expected));
  const std::size_t row = row_of(p.floats.size, odd);  // strictly causal, and of its own KV head
  CHECK(same_bits(got, before, 0, row));
  int wrong = 0;
  for (index_t t = odd; t < T; ++t)
    wrong += !std::equal(got.begin() + static_cast<std::ptrdiff_t>(row_of(p.floats.size, t)),
                         got.begin() + static_cast<std::ptrdiff_t>(row_of(p.floats.size, t, 2)),
                         before.begin() + static_cast<std::ptrdiff_t>(row_of(p.floats.size, t)));
  CHECK(wrong == 0);
  const bool finite = (scale & 0x7c00u) != 0x7c00u;
  const auto after  = got[row_of(p.floats.size, odd, 2) + (of_values ? 32 : 0)];
  CHECK((std::bit_cast<std::uint32_t>(after) << 1 < 0xff00'0000u) == finite);
}

TEST_CASE("computed: a caller's own views", "[attention]") {
  const mode m = GENERATE(from_range(sample(modes)));
  CAPTURE(m);
  const std::vector<selection> s = {random_selection(130, 0.3, 1)};
  computed<q8_0_block>         p({130, 6, 2, 64, 64});
  head_rows<float16>           narrow(130, 2, 64);
  std::mt19937                 random(4);
  narrow.fill([&] { return static_cast<float>(random() % 1000) * 0.01f; });
  auto wide = narrow.packed<float>();
  auto next = wide.begin();
  p.floats.v.fill([&] { return *next++; });
  const mixed_kv mixed{p.kv().keys, std::as_const(narrow).view()};
  CHECK(same_bits(attend<float>(m.options, p.floats, mixed, s), attend<float>(m.options, p.floats, p.floats.kv(), s)));

  problem<float>   products({130, 6, 2, 33, 20}, 9), floats = products;
  const product_kv own{products};
  for (index_t t = 0; t < 130; ++t)
    for (index_t h = 0; h < 2; ++h) {
      for (index_t c = 0; c < 33; ++c) floats.k.view().row(t, h)[c] = own.key(t, h)[c];
      for (index_t c = 0; c < 20; ++c) floats.v.view().row(t, h)[c] = own.value(t, h)[c];
    }
  CHECK(same_bits(attend<float>(m.options, floats, own, s), attend<float>(m.options, floats, floats.kv(), s)));
}

TEST_CASE("computed: a saved state", "[attention]") {
  const mode m = {"opened", {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8}};
  const computed<q8_0_block>           p({150, 4, 2, 64, 64}, 6);
  const selection                      s      = random_selection(150, 0.2, 2);
  const representatives                kept[] = {s.view()};
  attention<float, test_backend>       attend(m.options);
  attention_state<float, test_backend> state, loaded;
  head_rows<float>                     out(150, 4, 64), again(150, 4, 64);
  REQUIRE(extend_to(101, attend, state, p.floats.q, p.kv(), kept, out) == status::ok);
  std::vector<std::byte> bytes(state.saved_bytes());
  REQUIRE(state.save(bytes) == status::ok);
  REQUIRE(attend.load(loaded, p.kv(), bytes) == status::ok);
  REQUIRE(extend_to(150, attend, state, p.floats.q, p.kv(), kept, out) == status::ok);
  REQUIRE(extend_to(150, attend, loaded, p.floats.q, p.kv(), kept, again) == status::ok);
  const auto first = out.packed<float>(), second = again.packed<float>();
  CHECK(same_bits(first, second, row_of(p.floats.size, 101), first.size()));
}

TEST_CASE("computed: head dimensions and views that are refused", "[attention][errors]") {
  const auto answer_of = [](index_t dim, index_t key_blocks, index_t value_blocks) {
    const std::vector<float>       q(static_cast<std::size_t>(dim));
    const std::vector<q8_0_block>  blocks(4);
    std::vector<float>             out(static_cast<std::size_t>(dim));
    attention<float, test_backend> attend(dense_options);
    const status                   answer = attend(packed_heads(q.data(), 1, 1, dim),
                                                   strided_kv<q8_0_block>{packed_heads(blocks.data(), 1, 1, key_blocks),
                                                                          packed_heads(blocks.data(), 1, 1, value_blocks)},
                                                   {}, packed_heads(out.data(), 1, 1, dim));
    return answer == status::ok ? std::string() : std::string(message(answer));
  };
  CHECK(answer_of(96, 3, 3) == "");
  CHECK(answer_of(80, 2, 2) == "kv.key_dim() differs from q.dim");
  CHECK(answer_of(80, 3, 3) == "kv.key_dim() differs from q.dim");
  CHECK(answer_of(96, 3, 2) == "out.dim differs from kv.value_dim()");
  const index_t many = index_t{1} << 27;
  CHECK(answer_of(32, many, 1) == "kv.keys.dim times the elements of a block overflows");
  CHECK(answer_of(32, 1, many) == "kv.values.dim times the elements of a block overflows");
  CHECK(answer_of(32, 0, 1) == "kv.keys.dim is less than 1");
}

TEST_CASE("computed: vectors of Q8_0 are what its elements are, one by one", "[scalar]") {
  using B   = test_backend;
  using V   = kernel::vec<B>;
  int wrong = 0;
  for (std::uint32_t scale = 0; scale < 65536; scale += scale % 1024 == 1023 ? 1 : 31) {
    q8_0_block                  blocks[2] = {{}, block_of_scale(static_cast<std::uint16_t>(scale))};
    const block_row<q8_0_block> row{blocks};
    float                       loaded[16], lanes[V::width];
    const auto                  differ = [](float a, float b) {
      return std::bit_cast<std::uint32_t>(a) != std::bit_cast<std::uint32_t>(b);
    };
    for (index_t c = 0; c < 64; ++c) wrong += differ(row[c], blocks[c / 32][c % 32]);
    row.load(48, 16, loaded);
    for (index_t c = 0; c < 16; ++c) wrong += differ(loaded[c], row[48 + c]);
    kernel::attention::load_lanes<B, float>(row, 64 - V::width, 64).store(lanes);
    for (index_t c = 0; c < V::width; ++c) wrong += differ(lanes[c], row[64 - V::width + c]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("computed: Q8_0 of floats", "[scalar]") {
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[static_cast<std::size_t>(i)] = static_cast<float>(i - 20);
  const q8_0_block block = q8_0_block::of(x.data());
  CHECK(block.scale == from_float<float16>(20.0f / 127.0f));
  CHECK(block.values[0] == -127);
  CHECK(block.values[20] == 0);
  CHECK(block.values[31] == 70);  // 69.85
  for (float& value : x) value = 127;
  x[1] = 2.5f, x[2] = -2.5f, x[3] = 2.4f;  // ties go away from zero
  const q8_0_block ties = q8_0_block::of(x.data());
  CHECK((ties.values[1] == 3 && ties.values[2] == -3 && ties.values[3] == 2));

  const auto constant = [&](float value) {
    std::fill(x.begin(), x.end(), value);
    return q8_0_block::of(x.data());
  };
  CHECK(constant(0) == q8_0_block{});
  CHECK(constant(1e-7f) == q8_0_block{});  // its scale would be a float16 of zero
  CHECK(constant(1e-40f) == q8_0_block{});
  CHECK(constant(8e6f).values[5] == 127);
  for (const float bad : {9e6f, infinity, -infinity, not_a_number}) {
    CHECK(constant(bad).scale.bits == 0x7e00);
    x.assign(32, 1.0f);
    x[17] = bad;
    CHECK(q8_0_block::of(x.data()).scale.bits == 0x7e00);
  }
}
