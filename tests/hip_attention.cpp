// Attention on the simulated gfx942 against the reference in double.

#include "attention_data.hpp"
#include "cascada/hip/attention.hpp"
#include "catch.hpp"
#include "hip/simulator.hpp"

using namespace cascada;
using tests::problem;
using tests::selection;

namespace {

/// Packed heads on a 16-byte boundary, with NaN between tokens.
template <class Scalar>
class device_heads {
 public:
  device_heads(index_t tokens, index_t heads, index_t dim) : tokens_(tokens), heads_(heads), dim_(dim) {
    storage_.resize(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(stride()) / 8 + 1);
    std::fill_n(data(), tokens * stride(), from_float<Scalar>(std::nanf("")));
  }
  device_heads(const heads_view<const Scalar>& from) : device_heads(from.tokens, from.heads, from.dim) {
    for (index_t t = 0; t < tokens_; ++t)
      for (index_t h = 0; h < heads_; ++h) std::copy_n(from.row(t, h), dim_, view().row(t, h));
  }
  heads_view<Scalar> view() { return {data(), tokens_, heads_, dim_, stride(), dim_}; }

  std::vector<float> packed() {
    std::vector<float> all;
    for (index_t t = 0; t < tokens_; ++t)
      for (index_t i = 0; i < heads_ * dim_; ++i) all.push_back(to_float(view().row(t, 0)[i]));
    return all;
  }

 private:
  struct alignas(32) eight {
    Scalar element[8];
  };
  Scalar*      data() { return reinterpret_cast<Scalar*>(storage_.data()); }
  std::int64_t stride() const { return heads_ * dim_ + 8; }

  index_t            tokens_, heads_, dim_;
  std::vector<eight> storage_;
};

/// A selection as the device keeps it.
struct device_selection {
  explicit device_selection(const selection& of) : host(of), count(static_cast<index_t>(of.indices.size())) {}
  hip::selection_layer layer() { return {host.indices.data(), host.rep.data(), host.counts.data(), &count}; }

  selection host;
  index_t   count;
};

template <class Out, class Scalar>
std::vector<float> attend_on_device(const attention_options& options, const problem<Scalar>& p,
                                    const std::vector<selection>& selections, unsigned seed,
                                    const std::vector<index_t>& offsets = {}) {
  device_heads<Scalar>              q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<Out>                 out(p.size.tokens, p.size.heads, p.size.value_dim);
  std::vector<device_selection>     kept(selections.begin(), selections.end());
  std::vector<hip::selection_layer> layers;
  for (auto& one : kept) layers.push_back(one.layer());
  attention<Scalar, simulator::stream> attention(options, simulator::seeded(seed));
  const strided_kv<Scalar>             kv = {k.view(), v.view()};
  REQUIRE(attention(q.view(), kv, layers, out.view(), offsets) == status::ok);
  return out.packed();
}

/// Loops with the roundings that the device's contract allows: of means, and of weights before they meet the values.
template <class Scalar>
class plain_attention {
 public:
  plain_attention(const attention_options& options, const problem<Scalar>& p, const selection& chosen)
      : options_(options), in_(p.template input<float>()), rep_(chosen.rep) {}

  std::vector<float> operator()() {
    std::vector<float> out;
    for (index_t t = 0; t < in_.tokens; ++t)
      for (index_t h = 0; h < in_.heads; ++h) attend(t, h, out);
    return out;
  }

 private:
  struct source {
    std::vector<float> key, value;
    float              count = 1;
  };

  static float rounded(float x) { return to_float(from_float<Scalar>(x)); }

  template <class Row>
  std::vector<float> mean(index_t j, index_t end, Row row, float& count) const {
    std::vector<float> sum(static_cast<std::size_t>(in_.key_dim));
    count = 0;
    for (index_t i = j; i < end; ++i) {
      if (rep_[static_cast<std::size_t>(i)] != j) continue;
      ++count;
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += row(i)[c];
    }
    for (float& x : sum) x = rounded(x / count);
    return sum;
  }

  void add_clusters(index_t end, index_t g, std::vector<source>& to) const {
    for (index_t j = 0; j < end; ++j) {
      if (rep_[static_cast<std::size_t>(j)] != j) continue;
      source s;
      s.key   = mean(j, end, [&](index_t i) { return in_.key(i, g); }, s.count);
      s.value = mean(j, end, [&](index_t i) { return in_.value(i, g); }, s.count);
      to.push_back(s);
    }
  }

  void add_tokens(index_t begin, index_t end, index_t g, bool members_only, std::vector<source>& to) const {
    for (index_t i = begin; i < end; ++i)
      if (!members_only || rep_[static_cast<std::size_t>(i)] == i)
        to.push_back({{in_.key(i, g), in_.key(i, g) + in_.key_dim}, {in_.value(i, g), in_.value(i, g) + in_.key_dim}});
  }

  void attend(index_t t, index_t h, std::vector<float>& out) const {
    const index_t       g = h / in_.group(), T = in_.tokens;
    const bool          lifted = options_.queries == query_set::representatives;
    const index_t       asking = lifted ? rep_[static_cast<std::size_t>(t)] : t, end = options_.causal ? asking + 1 : T;
    const index_t       edge = std::max(0, t / options_.chunk * options_.chunk - options_.window);
    std::vector<source> from;
    if (options_.keys == key_set::near_and_far) add_clusters(edge, g, from);
    if (options_.keys == key_set::near_and_far || options_.keys == key_set::near) add_tokens(edge, end, g, false, from);
    if (options_.keys == key_set::all) add_tokens(0, end, g, false, from);
    if (options_.keys == key_set::representatives && options_.weighted) add_clusters(T, g, from);
    if (options_.keys == key_set::representatives && !options_.weighted) add_tokens(0, end, g, true, from);

    std::vector<float> query(in_.query(asking, h), in_.query(asking, h) + in_.key_dim);
    float              ignored;
    if (lifted && options_.weighted) query = mean(asking, T, [&](index_t i) { return in_.query(i, h); }, ignored);
    std::vector<float> logits, sum(static_cast<std::size_t>(in_.key_dim));
    float              top = -std::numeric_limits<float>::infinity(), total = 0;
    for (const source& s : from) {
      float dot = 0;
      for (std::size_t c = 0; c < query.size(); ++c) dot += query[c] * s.key[c];
      logits.push_back(dot / std::sqrt(static_cast<float>(in_.key_dim)) + std::log(s.count));
      top = std::max(top, logits.back());
    }
    for (std::size_t i = 0; i < from.size(); ++i) {
      const float weight = std::exp(logits[i] - top);
      total += weight;
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += rounded(weight) * from[i].value[c];
    }
    for (const float x : sum) out.push_back(x / total);
  }

  attention_options                 options_;
  reference::attention_input<float> in_;
  std::vector<index_t>              rep_;
};

/// FlashAttention's rule: at most twice the error of the plain implementation in the same precision.
template <class Scalar, class Out = float>
void check_close(const attention_options& options, const tests::shape& size, const selection& chosen, unsigned seed) {
  CAPTURE(size, seed);
  const problem<Scalar> p(size, seed);
  const auto            exact = reference::attention(p.template input<double>(), {chosen.rep}, options).out;
  auto                  plain = plain_attention<Scalar>(options, p, chosen)();
  const auto            ours  = attend_on_device<Out>(options, p, {chosen}, seed);
  double                worst = 0, allowed = 0, largest = 0;
  REQUIRE(ours.size() == exact.size());
  REQUIRE(plain.size() == exact.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double error = std::fabs(ours[i] - exact[i]);
    worst              = error <= worst ? worst : error;  // a NaN stays
    allowed            = std::max(allowed, std::fabs(to_float(from_float<Out>(plain[i])) - exact[i]));
    largest            = std::max(largest, std::fabs(exact[i]));
  }
  CAPTURE(worst, allowed);
  // The floor: rows of one key are exact in the plain loops.
  CHECK(worst <= 2 * allowed + 4 * std::numeric_limits<float>::epsilon() * largest);
}

bool on_device(const attention_options& options) {
  return options.queries != query_set::grouped && options.budget == 0 && !(options.weighted && options.causal);
}

}  // namespace

TEMPLATE_TEST_CASE("hip attention: every mode against the reference", "[hip]", bfloat16, float16) {
  const unsigned seed = GENERATE(1u, 2u, 3u);
  for (const auto& mode : tests::modes) {
    if (!on_device(mode.options)) continue;
    CAPTURE(mode.name);
    check_close<TestType>(mode.options, {70, 2, 1, 64, 64}, tests::random_selection(70, 0.3, seed), seed);
  }
}

TEMPLATE_TEST_CASE("hip attention: head sizes, groups of heads, ragged lengths", "[hip]", bfloat16, float16) {
  const auto shape = GENERATE(tests::shape{1, 1, 1, 64, 64}, tests::shape{33, 3, 1, 64, 64},
                              tests::shape{65, 4, 2, 128, 128}, tests::shape{40, 2, 2, 256, 256});
  const auto share = GENERATE(0.0, 0.4, 1.0);  // r = 1, some, T
  const auto chosen = tests::random_selection(shape.tokens, share, 3);
  check_close<TestType>({.window = 8, .chunk = 16}, shape, chosen, 5);
  check_close<TestType>({.keys = key_set::all}, shape, chosen, 6);
  check_close<TestType, TestType>({.keys = key_set::representatives, .queries = query_set::representatives}, shape,
                                  chosen, 7);
}

TEST_CASE("hip attention: near + far is dense where nothing is far", "[hip]") {
  const problem<bfloat16> p({90, 2, 1, 64, 64}, 4);
  const auto              chosen = tests::random_selection(90, 0.2, 4);
  const auto dense = attend_on_device<float>({.keys = key_set::all}, p, {chosen}, 9);
  const auto near  = attend_on_device<float>({.window = 64, .chunk = 32}, p, {chosen}, 9);
  REQUIRE(dense.size() == near.size());
  double worst = 0;  // not bit for bit here: the simulator adds in an order of its own for each block
  for (std::size_t i = 0; i < dense.size(); ++i) worst = std::max(worst, std::fabs(double{dense[i]} - near[i]));
  CHECK(worst < 1e-2);
}

TEST_CASE("hip attention: later tokens change nothing before them", "[hip]") {
  const auto        cut     = GENERATE(1, 31, 32, 64);
  const auto        options = GENERATE(attention_options{.window = 16, .chunk = 32}, attention_options{.keys = key_set::all});
  problem<bfloat16> p({80, 2, 1, 64, 64}, 6);
  const auto        chosen = tests::random_selection(80, 0.3, 6);
  const auto        before = attend_on_device<float>(options, p, {chosen}, 11);
  p.randomise(77, cut);
  const auto after = attend_on_device<float>(options, p, {chosen}, 11);
  CHECK(tests::same_bits(before, after, 0, static_cast<std::size_t>(cut) * 128));
  CHECK_FALSE(tests::same_bits(before, after));
}

TEST_CASE("hip attention: ragged batches", "[hip]") {
  const attention_options    options{.window = 8, .chunk = 16};
  const problem<bfloat16>    p({60, 2, 1, 64, 64}, 8);
  const std::vector<index_t> offsets = {0, 25, 25, 60};
  const auto a = tests::random_selection(25, 0.3, 1), b = tests::random_selection(35, 0.3, 2);
  const auto together = attend_on_device<float>(options, p, {a, tests::identity_selection(0), b}, 3, offsets);

  problem<bfloat16> last({35, 2, 1, 64, 64}, 8);
  for (auto [to, from] : {std::pair{&last.q, &p.q}, {&last.k, &p.k}, {&last.v, &p.v}})
    for (index_t t = 0; t < 35; ++t)
      for (index_t h = 0; h < to->view().heads; ++h) std::copy_n(from->view().row(t + 25, h), 64, to->view().row(t, h));
  const auto exact = reference::attention(last.input<double>(), {b.rep}, options).out;
  REQUIRE(together.size() == 60 * 128);
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK(std::fabs(together[25 * 128 + i] - exact[i]) < 0.05);
}

TEST_CASE("hip attention: a failed selection writes nothing", "[hip]") {
  const problem<bfloat16> p({20, 1, 1, 64, 64}, 8);
  device_heads<bfloat16>  q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<float>     out(20, 1, 64);
  device_selection        failed(tests::identity_selection(20));
  failed.count = -1;
  const strided_kv<bfloat16> kv    = {k.view(), v.view()};
  const hip::selection_layer layer = failed.layer();
  attention<bfloat16, simulator::stream> attention({.window = 4, .chunk = 8}, simulator::seeded(1));
  REQUIRE(attention(q.view(), kv, {&layer, 1}, out.view()) == status::ok);
  for (const float x : out.packed()) CHECK(x != x);
}

TEST_CASE("hip attention: what the device does not take", "[hip]") {
  const problem<bfloat16>    p({20, 1, 1, 64, 64}, 8);
  device_heads<bfloat16>     q(p.q.view()), k(p.k.view()), v(p.v.view());
  device_heads<float>        out(20, 1, 64);
  device_selection           chosen(tests::identity_selection(20));
  const strided_kv<bfloat16> kv    = {k.view(), v.view()};
  const hip::selection_layer layer = chosen.layer();
  for (const auto& mode : tests::modes) {
    CAPTURE(mode.name);
    attention<bfloat16, simulator::stream> attention(mode.options);
    CHECK(attention(q.view(), kv, {&layer, 1}, out.view()) ==
          (on_device(mode.options) ? status::ok : status::unsupported));
  }
  attention<bfloat16, simulator::stream> attention;
  CHECK(attention(q.view(), kv, {}, out.view()) == status::invalid_representatives);
}
