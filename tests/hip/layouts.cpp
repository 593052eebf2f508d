// Layouts of keys and values on the simulated gfx942: pages and transposed values give, bit for bit, what rows give.

#include <numeric>
#include <random>
#include <string>

#include "hip/attention_data.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// The same keys and values in shuffled pages of a pool; what belongs to no token is NaN.
template <class Scalar>
class device_pages {
 public:
  device_pages(const problem<Scalar>& p, index_t block_tokens, unsigned seed)
      : block_tokens_(block_tokens),
        length_(p.size.tokens),
        table_(static_cast<std::size_t>((length_ + block_tokens - 1) / block_tokens)),
        keys_(pool_tokens(), p.size.kv_heads, p.size.key_dim),
        values_(pool_tokens(), p.size.kv_heads, p.size.value_dim) {
    std::vector<index_t> blocks(table_.size() + 2);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
    std::copy_n(blocks.begin(), table_.size(), table_.begin());
    for (index_t t = 0; t < length_; ++t) {
      const index_t to = table_[static_cast<std::size_t>(t / block_tokens)] * block_tokens + t % block_tokens;
      for (index_t h = 0; h < p.size.kv_heads; ++h) {
        std::copy_n(p.k.view().row(t, h), p.size.key_dim, keys_.view().row(to, h));
        std::copy_n(p.v.view().row(t, h), p.size.value_dim, values_.view().row(to, h));
      }
    }
  }
  paged_kv<Scalar> view() { return {keys_.view(), values_.view(), table_, block_tokens_, length_}; }

 private:
  index_t pool_tokens() const { return (static_cast<index_t>(table_.size()) + 2) * block_tokens_; }

  index_t              block_tokens_, length_;
  std::vector<index_t> table_;
  device_heads<Scalar> keys_, values_;
};

/// The same values transposed, beside keys in rows.
template <class Scalar>
class device_transposed {
 public:
  device_transposed(const problem<Scalar>& p, index_t room)
      : dim_(p.size.value_dim),
        stride_(p.size.tokens + room),
        keys_(p.k.view()),
        values_(static_cast<std::size_t>(p.size.kv_heads * dim_ * stride_), from_float<Scalar>(std::nanf(""))) {
    for (index_t t = 0; t < p.size.tokens; ++t)
      for (index_t h = 0; h < p.size.kv_heads; ++h)
        for (index_t c = 0; c < dim_; ++c)
          values_[static_cast<std::size_t>((h * dim_ + c) * stride_ + t)] = p.v.view().row(t, h)[c];
  }
  transposed_value_kv<Scalar> view() { return {keys_.view(), values_.data(), dim_, dim_ * stride_, stride_}; }

 private:
  index_t              dim_, stride_;
  device_heads<Scalar> keys_;
  std::vector<Scalar>  values_;
};

/// The last `asking` rows of each sequence, by a chip that always adds alike.
template <class Out, class Scalar, class KV>
std::vector<float> attend_to(const KV& kv, const attention_options& options, const problem<Scalar>& p,
                             const std::vector<selection>& selections, index_t asking,
                             const attention_call& call = {}) {
  device_heads<Scalar>              q(tests::rows_of(p.q.view(), p.size.tokens - asking, p.size.tokens));
  device_heads<Out>                 out(asking, p.size.heads, p.size.value_dim);
  std::vector<device_selection>     kept(selections.begin(), selections.end());
  std::vector<hip::selection_layer> layers;
  for (auto& one : kept) layers.push_back(one.layer());
  attention<Scalar, simulator::stream> attention(options, simulator::steady(5));
  REQUIRE(attention(q.view(), kv, layers, out.view(), call) == status::ok);
  return out.packed();
}

template <class Scalar, class Out = float>
void check_layouts(const attention_options& options, const problem<Scalar>& p, const std::vector<selection>& selections,
                   index_t asking, const attention_call& call = {}) {
  device_heads<Scalar> k(p.k.view()), v(p.v.view());
  const auto rows = attend_to<Out>(strided_kv<Scalar>{k.view(), v.view()}, options, p, selections, asking, call);
  for (const index_t block_tokens : tests::sample(std::vector<index_t>{1, 12, 64})) {
    CAPTURE(block_tokens);
    device_pages<Scalar> pages(p, block_tokens, 3);
    CHECK(same_bits(attend_to<Out>(pages.view(), options, p, selections, asking, call), rows));
  }
  device_transposed<Scalar> transposed(p, 3);
  CHECK(same_bits(attend_to<Out>(transposed.view(), options, p, selections, asking, call), rows));
}

}  // namespace

TEMPLATE_TEST_CASE("hip layouts: in every mode rows are the same", "[hip]", ROW_TYPES) {
  const problem<TestType> p({150, 4, 2, 64, 64}, 41);
  for (const auto& mode : tests::sample(device_modes())) {
    CAPTURE(mode.name);
    const std::vector<selection> of_heads = {random_selection(150, 0.3, 41), random_selection(150, 0.2, 42)};
    check_layouts<TestType>(mode.options, p, needs_selections(mode.options) ? of_heads : std::vector{of_heads[0]}, 150);
  }
}

TEMPLATE_TEST_CASE("hip layouts: head sizes, results in the type of the rows, few queries", "[hip]", ROW_TYPES) {
  const index_t dim = GENERATE(64, 128, 256);
  CAPTURE(dim);
  const problem<TestType> p({75, 2, 1, dim, dim}, 42);
  const auto              chosen = random_selection(75, 0.3, 42);
  for (const index_t asking : {75, 1}) {
    check_layouts<TestType, TestType>({.keys = key_set::all}, p, {chosen}, asking);
    check_layouts<TestType, TestType>(closed({.window = 8, .chunk = 16}), p, {chosen}, asking);
  }
  check_layouts<TestType, TestType>(opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.05f, .tile = 4}), p,
                                    {chosen}, 75);
}

TEST_CASE("hip layouts: whole tiles of near keys that do not begin with the first", "[hip]") {
  const problem<bfloat16> p({150, 4, 2, 64, 64}, 43);
  check_layouts<bfloat16>({.keys = key_set::near, .window = 64, .chunk = 16}, p, {random_selection(150, 0.3, 43)}, 150);
}

TEST_CASE("hip layouts: slopes", "[hip]") {
  const problem<bfloat16>  p({75, 2, 1, 64, 64}, 45);
  const std::vector<float> slopes = {0.2f, 0.01f};
  for (const index_t asking : {75, 1})
    check_layouts<bfloat16>({.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2}, p, {}, asking,
                            {.slopes = slopes});
}

TEST_CASE("hip layouts: sequences that begin inside a page", "[hip]") {
  const problem<bfloat16>    p({90, 2, 1, 64, 64}, 43);
  const std::vector<index_t> offsets = {0, 37, 90};
  check_layouts<bfloat16>(closed({.window = 8, .chunk = 16}), p,
                          {random_selection(37, 0.3, 1), random_selection(53, 0.3, 2)}, 90, {.query_offsets = offsets});
}

TEST_CASE("hip layouts: what the device does not take of pages", "[hip]") {
  const problem<bfloat16>                p({20, 1, 1, 64, 64}, 44);
  device_heads<bfloat16>                 q(p.q.view());
  device_heads<float>                    out(20, 1, 64);
  device_pages<bfloat16>                 good(p, 8, 1);
  attention<bfloat16, simulator::stream> attention({.keys = key_set::all}, simulator::seeded(1));
  const auto                             refusal = [&](const paged_kv<bfloat16>& kv, status code) {
    const status answer = attention(q.view(), kv, out.view());
    CHECK(answer == code);
    return std::string(message(answer));
  };
  auto shorter        = good.view();
  shorter.block_table = shorter.block_table.first(2);
  CHECK(refusal(shorter, status::invalid_shape) == "kv.block_table has fewer blocks than kv.length tokens fill");
  auto apart = good.view();
  apart.values.token_stride += 1;
  CHECK(refusal(apart, status::unsupported_by_device).starts_with("kv.values are not on 16-byte boundaries"));
  for (const float x : out.packed()) CHECK(x != x);  // untouched
}
