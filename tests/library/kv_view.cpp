// Keys and values: three layouts of the same rows, and which of them can be read.

#include "cascada/kv_view.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace cascada;

namespace {

static_assert(kv_view<strided_kv<float>> && kv_view<transposed_value_kv<bfloat16>> && kv_view<paged_kv<float>>);
static_assert(!kv_view<heads_view<float>> && !kv_view<int>);

/// An engine's own: every head the same row of ones.
struct constant_kv {
  using scalar = float;
  const float* row;

  index_t            tokens() const { return 7; }
  index_t            kv_heads() const { return 1; }
  index_t            key_dim() const { return 2; }
  index_t            value_dim() const { return 2; }
  strided_row<float> key(index_t, index_t) const { return {row, 1}; }
  strided_row<float> value(index_t, index_t) const { return {row, 1}; }
  status             check() const { return status::ok; }
};
static_assert(kv_view<constant_kv>);

constexpr index_t T = 11, heads = 2, key_dim = 3, value_dim = 5;

float key_element(index_t t, index_t h, index_t c) { return static_cast<float>(t * 100 + h * 10 + c); }
float value_element(index_t t, index_t h, index_t c) { return -1.0f - key_element(t, h, c); }

template <class KV>
void check_elements(const KV& kv) {
  REQUIRE(kv.check() == status::ok);
  REQUIRE(kv.tokens() == T);
  REQUIRE(kv.kv_heads() == heads);
  REQUIRE(kv.key_dim() == key_dim);
  REQUIRE(kv.value_dim() == value_dim);
  int wrong = 0;
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < heads; ++h) {
      for (index_t c = 0; c < key_dim; ++c) wrong += kv.key(t, h)[c] != key_element(t, h, c);
      for (index_t c = 0; c < value_dim; ++c) wrong += kv.value(t, h)[c] != value_element(t, h, c);
    }
  CHECK(wrong == 0);
}

void check_answer(status answer, status expected) {
  CHECK(answer == expected);
  CHECK(std::string(message(answer)) == message(expected));
}

/// Rows [tokens, heads, dim] with gaps between heads and between tokens.
struct padded_rows {
  std::vector<float> memory;
  heads_view<float>  view;

  padded_rows(index_t tokens, index_t dim) : memory(static_cast<std::size_t>(tokens * (heads * (dim + 1) + 4))) {
    view = {memory.data(), tokens, heads, dim, heads * (dim + 1) + 4, dim + 1};
  }
  template <class Element>
  void fill(index_t tokens, index_t dim, Element element, index_t (*slot)(index_t) = [](index_t t) { return t; }) {
    for (index_t t = 0; t < tokens; ++t)
      for (index_t h = 0; h < heads; ++h)
        for (index_t c = 0; c < dim; ++c) view.row(slot(t), h)[c] = element(t, h, c);
  }
};

// Pages of 4 tokens in a pool of 5; 11 tokens need 3.
constexpr index_t page = 4, pages = 5;
constexpr index_t table[] = {3, 0, 4};
index_t           slot_of(index_t t) { return table[t / page] * page + t % page; }

}  // namespace

TEST_CASE("kv_view: strided", "[kv_view]") {
  padded_rows keys(T, key_dim), values(T, value_dim);
  keys.fill(T, key_dim, key_element);
  values.fill(T, value_dim, value_element);
  check_elements(strided_kv<float>{keys.view, values.view});
}

TEST_CASE("kv_view: transposed values", "[kv_view]") {
  constexpr std::int64_t dim_stride = T + 2, head_stride = value_dim * dim_stride + 3;
  padded_rows            keys(T, key_dim);
  std::vector<float>     values(heads * head_stride);
  keys.fill(T, key_dim, key_element);
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < heads; ++h)
      for (index_t c = 0; c < value_dim; ++c)
        values[static_cast<std::size_t>(h * head_stride + c * dim_stride + t)] = value_element(t, h, c);
  check_elements(transposed_value_kv<float>{keys.view, values.data(), value_dim, head_stride, dim_stride});
}

TEST_CASE("kv_view: paged, pages in any order", "[kv_view]") {
  padded_rows keys(pages * page, key_dim), values(pages * page, value_dim);
  keys.fill(T, key_dim, key_element, slot_of);
  values.fill(T, value_dim, value_element, slot_of);
  check_elements(paged_kv<float>{keys.view, values.view, table, page, T});
}

TEST_CASE("kv_view: bfloat16 elements are read as float", "[kv_view]") {
  const bfloat16              row[] = {from_float<bfloat16>(1.5f), {}, from_float<bfloat16>(-2.0f)};
  const strided_row<bfloat16> every_other{row, 2};
  CHECK(every_other[0] == 1.5f);
  CHECK(every_other[1] == -2.0f);
}

TEST_CASE("kv_view: strided rows that cannot be read", "[kv_view][errors]") {
  constexpr std::int64_t far    = std::numeric_limits<std::int64_t>::max() / 4;
  float                  memory = 0;  // never read
  strided_kv<float>      kv{{&memory, T, heads, key_dim, 6, 3}, {&memory, T, heads, value_dim, 10, 5}};
  check_answer(kv.check(), status::ok);
  auto        code = status::invalid_shape;
  const char* why  = "";
  SECTION("null keys") { kv.keys.data = nullptr, why = "kv.keys.data is null"; }
  SECTION("null values") { kv.values.data = nullptr, why = "kv.values.data is null"; }
  SECTION("negative tokens") { kv.keys.tokens = kv.values.tokens = -1, why = "kv.keys.tokens is negative"; }
  SECTION("negative tokens of values") { kv.values.tokens = -1, why = "kv.values.tokens is negative"; }
  SECTION("tokens differ") { --kv.values.tokens, why = "kv.values.tokens differs from kv.keys.tokens"; }
  SECTION("no values of tokens") { kv.values.tokens = 0, why = "kv.values.tokens differs from kv.keys.tokens"; }
  SECTION("heads differ") { --kv.values.heads, why = "kv.values.heads differs from kv.keys.heads"; }
  SECTION("no heads") { kv.keys.heads = kv.values.heads = 0, why = "kv.keys.heads is less than 1"; }
  SECTION("no heads of values") { kv.values.heads = 0, why = "kv.values.heads is less than 1"; }
  SECTION("no key columns") { kv.keys.dim = 0, why = "kv.keys.dim is less than 1"; }
  SECTION("no value columns") { kv.values.dim = 0, why = "kv.values.dim is less than 1"; }
  const char* keys_overlap = "kv.keys.token_stride is less than kv.keys.dim";
  SECTION("keys of tokens overlap") { kv.keys.token_stride = 2, why = keys_overlap; }
  SECTION("a negative stride") { kv.keys.token_stride = -6, why = keys_overlap; }
  SECTION("keys of heads overlap") { kv.keys.head_stride = 2, why = "kv.keys.head_stride is less than kv.keys.dim"; }
  SECTION("values of tokens overlap") {
    kv.values.token_stride = 4, why = "kv.values.token_stride is less than kv.values.dim";
  }
  SECTION("values of heads overlap") {
    kv.values.head_stride = 4, why = "kv.values.head_stride is less than kv.values.dim";
  }
  SECTION("sizes that overflow") {
    kv.keys.token_stride = far, code = status::too_large;
    why = "kv.keys.tokens times kv.keys.token_stride plus kv.keys.heads times kv.keys.head_stride overflows";
  }
  SECTION("sizes that overflow in bytes only") {
    kv.values.head_stride = far, code = status::too_large;
    why = "kv.values.tokens times kv.values.token_stride plus kv.values.heads times kv.values.head_stride overflows";
  }
  check_answer(kv.check(), {code, why});
}

TEST_CASE("kv_view: no tokens, one token and one head need no strides", "[kv_view][errors]") {
  float memory = 0;
  CHECK(strided_kv<float>{{nullptr, 0, heads, key_dim}, {nullptr, 0, heads, value_dim}}.check() == status::ok);
  CHECK(strided_kv<float>{{&memory, 1, 1, key_dim}, {&memory, 1, 1, value_dim}}.check() == status::ok);
  CHECK(transposed_value_kv<float>{{nullptr, 0, heads, key_dim}, nullptr, value_dim}.check() == status::ok);
  CHECK(paged_kv<float>{{nullptr, 0, heads, key_dim}, {nullptr, 0, heads, value_dim}, {}, page, 0}.check() ==
        status::ok);
}

TEST_CASE("kv_view: no tokens is no error, whatever their columns and data", "[kv_view][errors]") {
  for (const index_t dim : {0, -1, std::numeric_limits<index_t>::max()}) {
    CAPTURE(dim);
    CHECK(strided_kv<float>{{nullptr, 0, heads, dim}, {nullptr, 0, heads, dim}}.check() == status::ok);
    CHECK(transposed_value_kv<float>{{nullptr, 0, heads, dim}, nullptr, dim}.check() == status::ok);
    CHECK(paged_kv<float>{{nullptr, 0, heads, dim}, {nullptr, 0, heads, dim}, {}, page, 0}.check() == status::ok);
  }
}

TEST_CASE("kv_view: transposed values that cannot be read", "[kv_view][errors]") {
  float                      memory = 0;
  transposed_value_kv<float> kv{{&memory, T, heads, key_dim, 6, 3}, &memory, value_dim, value_dim * T, T};
  check_answer(kv.check(), status::ok);
  auto        code = status::invalid_shape;
  const char* why  = "";
  SECTION("keys") { kv.keys.token_stride = 2, why = "kv.keys.token_stride is less than kv.keys.dim"; }
  SECTION("null values") { kv.values = nullptr, why = "kv.values is null"; }
  SECTION("no value columns") { kv.dim = 0, why = "kv.dim is less than 1"; }
  SECTION("columns overlap") { kv.dim_stride = T - 1, why = "kv.dim_stride is less than kv.keys.tokens"; }
  SECTION("heads overlap") { kv.head_stride = T - 1, why = "kv.head_stride is less than kv.keys.tokens"; }
  SECTION("sizes that overflow") {
    kv.dim_stride = std::numeric_limits<std::int64_t>::max() / 2, code = status::too_large;
    why = "kv.dim times kv.dim_stride plus kv.keys.heads times kv.head_stride overflows";
  }
  check_answer(kv.check(), {code, why});
}

TEST_CASE("kv_view: pages that cannot be read", "[kv_view][errors]") {
  float                memory = 0;
  std::vector<index_t> blocks{3, 0, 4};
  paged_kv<float>      kv{
           {&memory, pages * page, heads, key_dim, 6, 3}, {&memory, pages * page, heads, value_dim, 10, 5}, blocks, page, T};
  check_answer(kv.check(), status::ok);
  const char* why    = "";
  const char* beyond = "kv.block_table has a block that does not lie in kv.keys.tokens";
  SECTION("the pool") { kv.keys.token_stride = 2, why = "kv.keys.token_stride is less than kv.keys.dim"; }
  SECTION("negative length") { kv.length = -1, why = "kv.length is negative"; }
  SECTION("pages of nothing") { kv.block_tokens = 0, why = "kv.block_tokens is less than 1"; }
  SECTION("a table too short") {
    kv.block_table = kv.block_table.first(2), why = "kv.block_table has fewer blocks than kv.length tokens fill";
  }
  SECTION("no table") { kv.block_table = {}, why = "kv.block_table has fewer blocks than kv.length tokens fill"; }
  SECTION("a table at no address") {
    kv.block_table = {static_cast<const index_t*>(nullptr), 3}, why = "kv.block_table is null";
  }
  SECTION("a page before the pool") { blocks[1] = -1, why = "kv.block_table has a negative block"; }
  SECTION("a page after the pool") { blocks[2] = pages, why = beyond; }
  SECTION("a page that the pool holds in part") { kv.keys.tokens = kv.values.tokens = pages * page - 1, why = beyond; }
  SECTION("a page far after the pool") { blocks[0] = std::numeric_limits<index_t>::max(), why = beyond; }
  SECTION("a page of more tokens than the pool") {
    kv.block_tokens = std::numeric_limits<index_t>::max(), why = beyond;
  }
  check_answer(kv.check(), {status::invalid_shape, why});
}

TEST_CASE("kv_view: entries of the table past the length are not looked at", "[kv_view]") {
  float           memory   = 0;
  const index_t   blocks[] = {3, 0, 4, -1};
  paged_kv<float> kv{
      {&memory, pages * page, heads, key_dim, 6, 3}, {&memory, pages * page, heads, value_dim, 10, 5}, blocks, page, T};
  CHECK(kv.check() == status::ok);
  kv.length = 3 * page;
  CHECK(kv.check() == status::ok);
  kv.length = 3 * page + 1;
  check_answer(kv.check(), {status::invalid_shape, "kv.block_table has a negative block"});
}
