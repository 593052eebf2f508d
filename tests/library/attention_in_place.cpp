// Few query rows, whose keys and values are multiplied where they lie: bit for bit what a call of all queries gives,
// which packs them.

#include <algorithm>
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

/// Rows of whole vectors, and keys of more than one step.
const shape in_place_shape = {560, 6, 2, 64, 96};

const std::vector<mode> with_few_rows = {
    {"dense", {.keys = key_set::all}},
    {"window", {.keys = key_set::near, .window = 300, .chunk = 256, .sink_tokens = 2}},
    {"sliding window", {.keys = key_set::all, .sliding_window = 200}},
    {"closed", {.window = 64, .chunk = 64, .leaves = leaf_formation::by_order, .open = opening::none}},
    {"opened", {.window = 64, .chunk = 64, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 16}},
    {"opened, summaries of bfloat16",
     {.window         = 64,
      .chunk          = 64,
      .leaf_threshold = 0.3f,
      .summaries      = summary_type::bfloat16,
      .open_above     = 0.02f,
      .tile           = 16}},
    {"opened, summaries of bytes",
     {.window         = 64,
      .chunk          = 64,
      .leaf_threshold = 0.3f,
      .summaries      = summary_type::bytes,
      .open_above     = 0.02f,
      .tile           = 16}},
    {"all opened", {.window = 64, .chunk = 64, .open = opening::all}},
};

/// What rows may hold.
struct odd_rows {
  const char* name;
  float       keys, values;  // times ordinary ones
  bool        nan;
};

inline std::ostream& operator<<(std::ostream& out, const odd_rows& o) { return out << o.name; }

const std::vector<odd_rows> contents = {
    {"ordinary", 1, 1, false},         {"large logits", 1e3f, 1, false},         {"huge logits", 1e12f, 1, false},
    {"large values", 1, 1e20f, false}, {"NaN and infinity in some", 1, 1, true},
};

template <class Scalar>
problem<Scalar> filled(const shape& s, const odd_rows& odd) {
  problem<Scalar> p(s, 11);
  const auto      stretch = [](head_rows<Scalar>& rows, float factor) {
    const auto all = rows.view();
    for (index_t t = 0; t < all.tokens; ++t)
      for (index_t h = 0; h < all.heads; ++h)
        for (index_t c = 0; c < all.dim; ++c)
          all.row(t, h)[c] = from_float<Scalar>(std::min(6e4f, to_float(all.row(t, h)[c]) * factor));
  };
  if (odd.keys != 1) stretch(p.k, std::is_same_v<Scalar, float16> ? std::min(odd.keys, 1e3f) : odd.keys);
  if (odd.values != 1)  // in one block, so that others are multiplied in place beside it
    for (index_t t = 515; t < s.tokens && t < 525; ++t)
      for (index_t c = 0; c < s.value_dim; ++c) p.v.view().row(t, 1)[c] = from_float<Scalar>(odd.values);
  if (!odd.nan) return p;
  p.k.view().row(s.tokens - 55, 0)[3] = from_float<Scalar>(std::numeric_limits<float>::quiet_NaN());
  p.v.view().row(s.tokens - 40, 1)[5] = from_float<Scalar>(std::numeric_limits<float>::quiet_NaN());
  p.v.view().row(s.tokens - 20, 1)[6] = from_float<Scalar>(-std::numeric_limits<float>::infinity());
  return p;
}

/// Values by dimension, tokens in blocks in any order, NaN where nobody lies: ggml's cache without flash attention.
template <class Scalar>
struct columns_of_cells {
  heads_view<const Scalar> keys;
  shuffled_blocks          blocks;
  index_t                  dim;
  std::int64_t             dim_stride = blocks.pool_tokens;
  std::vector<Scalar>      storage;

  explicit columns_of_cells(const problem<Scalar>& p)
      : keys(p.k.view()), blocks(p.size.tokens, 40), dim(p.size.value_dim) {
    storage.assign(static_cast<std::size_t>(dim_stride * dim * keys.heads),
                   from_float<Scalar>(std::numeric_limits<float>::quiet_NaN()));
    for (index_t t = 0; t < keys.tokens; ++t)
      for (index_t h = 0; h < keys.heads; ++h)
        for (index_t c = 0; c < dim; ++c) storage[place(t, h, c)] = p.v.view().row(t, h)[c];
  }

  std::size_t place(index_t t, index_t h, index_t c) const {
    return static_cast<std::size_t>((std::int64_t{h} * dim + c) * dim_stride + blocks.slot(t));
  }
  index_t             tokens() const noexcept { return keys.tokens; }
  index_t             kv_heads() const noexcept { return keys.heads; }
  index_t             key_dim() const noexcept { return keys.dim; }
  index_t             value_dim() const noexcept { return dim; }
  strided_row<Scalar> key(index_t t, index_t h) const noexcept { return {keys.row(t, h)}; }
  strided_row<Scalar> value(index_t t, index_t h) const noexcept {
    return {storage.data() + place(t, h, 0), dim_stride};
  }
  status check() const noexcept { return status::ok; }
};

/// A sequence that has read some of its tokens.
template <class Scalar, cpu_backend B>
struct begun_sequence {
  attention<Scalar, B>       attend;
  attention_state<Scalar, B> state;
  head_rows<Scalar>          out;

  template <kv_view KV>
  void extend(const problem<Scalar>& p, const KV& kv, const selection& s, index_t end) {
    const representatives kept[] = {s.view()};
    REQUIRE(extend_to(end, attend, state, p.q, kv, kept, out) == status::ok);
  }
};

template <class Scalar, cpu_backend B>
void check_steps(const shape& s, const mode& m, const odd_rows& odd) {
  CAPTURE(s, m, odd);
  const problem<Scalar>    p        = filled<Scalar>(s, odd);
  const selection          chosen   = random_selection(s.tokens, 0.15, 4);
  const auto               expected = attend<Scalar, Scalar, strided_kv<Scalar>, B>(m.options, p, p.kv(), {chosen});
  const paged_copy<Scalar> paged(p, 16);
  const transposed_copy<Scalar>  transposed(p);
  const columns_of_cells<Scalar> cells(p);

  begun_sequence<Scalar, B> first{attention<Scalar, B>(m.options), {}, {s.tokens, s.heads, s.value_dim}};
  first.extend(p, p.kv(), chosen, 500);
  const auto results = [&](const auto& kv, index_t step) {
    auto one = first;
    while (one.state.tokens() < s.tokens) one.extend(p, kv, chosen, std::min(s.tokens, one.state.tokens() + step));
    return one.out.template packed<float>();
  };
  for (const index_t step : {1, 2, 5}) {
    CAPTURE(step);
    CHECK(same_bits(results(p.kv(), step), expected));
    CHECK(same_bits(results(transposed.view, step), expected));
  }
  CHECK(same_bits(results(paged.view, 1), expected));
  CHECK(same_bits(results(cells, 1), expected));
}

}  // namespace

TEMPLATE_TEST_CASE("in place: steps of a few tokens give what one call gives", "[attention]", float, bfloat16,
                   float16) {
  for (const mode& m : sample(with_few_rows)) check_steps<TestType, test_backend>(in_place_shape, m, contents[0]);
  for (const odd_rows& odd : sample(contents))
    check_steps<TestType, test_backend>(in_place_shape, with_few_rows[3], odd);
}

TEMPLATE_LIST_TEST_CASE("in place: by every kind of products", "[attention]", product_backends) {
  const odd_rows odd = GENERATE(from_range(sample(contents)));
  check_steps<bfloat16, TestType>(in_place_shape, with_few_rows[0], odd);
}

TEMPLATE_TEST_CASE("in place: any number of heads, and dimensions of whole and of broken vectors", "[attention]", float,
                   bfloat16) {
  const std::vector<shape> all = {{520, 1, 1, 32, 32},  {520, 8, 8, 32, 64}, {520, 4, 1, 128, 128},
                                  {520, 40, 8, 32, 32}, {520, 5, 5, 72, 40}, {520, 9, 1, 32, 32}};
  const shape              s   = GENERATE_COPY(from_range(sample(all)));
  check_steps<TestType, test_backend>(s, with_few_rows[0], contents[0]);
}
