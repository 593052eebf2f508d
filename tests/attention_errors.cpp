// Attention refuses what makes no sense, and leaves the output as it was.

#include <limits>
#include <vector>

#include "attention_data.hpp"
#include "catch.hpp"

using namespace cascada;
using namespace tests;

namespace {

constexpr index_t T = 6, heads = 4, kv_heads = 2, key_dim = 3, value_dim = 5;
constexpr index_t huge = std::numeric_limits<index_t>::max();

/// A call that is right until one part of it is spoilt.
struct call {
  attention_options            options;
  std::vector<float>           q_data     = std::vector<float>(T * heads * key_dim, 1.0f);
  std::vector<float>           k_data     = std::vector<float>(T * kv_heads * key_dim, 1.0f);
  std::vector<float>           v_data     = std::vector<float>(T * kv_heads * value_dim, 1.0f);
  std::vector<float>           result     = std::vector<float>(T * heads * value_dim, 42.0f);
  heads_view<const float>      q          = packed_heads<const float>(q_data.data(), T, heads, key_dim);
  heads_view<const float>      k          = packed_heads<const float>(k_data.data(), T, kv_heads, key_dim);
  heads_view<const float>      v          = packed_heads<const float>(v_data.data(), T, kv_heads, value_dim);
  heads_view<float>            out        = packed_heads(result.data(), T, heads, value_dim);
  std::vector<selection>       selections = {identity_selection(T)};
  std::vector<representatives> views_     = views(selections);
  std::vector<index_t>         offsets    = {};

  call()            = default;
  call(const call&) = delete;

  status run() {
    attention<float> attention(options);
    return attention(q, strided_kv<float>{k, v}, views_, out, offsets);
  }

  bool untouched() const { return result == std::vector<float>(result.size(), 42.0f); }
};

template <class Spoil>
void refuses(const char* what, status expected, Spoil spoil) {
  CAPTURE(what);
  call c;
  spoil(c);
  const status answer = c.run();
  CHECK(answer == expected);
  CHECK(c.untouched());
}

status of(const attention_options& options) {
  call c;
  c.options           = options;
  const status answer = c.run();
  CHECK(answer == check(options));
  CHECK(c.untouched() == (answer != status::ok));
  return answer;
}

}  // namespace

TEST_CASE("attention: the call that is spoilt below is right", "[errors]") {
  call c;
  CHECK(c.run() == status::ok);
  CHECK_FALSE(c.untouched());
}

TEST_CASE("attention: invalid shapes", "[errors]") {
  const auto bad = status::invalid_shape;
  refuses("null q", bad, [](call& c) { c.q.data = nullptr; });
  refuses("null k", bad, [](call& c) { c.k.data = nullptr; });
  refuses("null v", bad, [](call& c) { c.v.data = nullptr; });
  refuses("null out", bad, [](call& c) { c.out.data = nullptr; });
  refuses("T < 0", bad, [](call& c) { c.q.tokens = c.k.tokens = c.v.tokens = c.out.tokens = -1; });
  refuses("no key columns", bad, [](call& c) { c.q.dim = c.k.dim = 0; });
  refuses("no value columns", bad, [](call& c) { c.v.dim = c.out.dim = 0; });
  refuses("no heads", bad, [](call& c) { c.q.heads = c.out.heads = 0; });
  refuses("no KV heads", bad, [](call& c) { c.k.heads = c.v.heads = 0; });
  refuses("rows of a head overlap", bad, [](call& c) { c.q.head_stride = key_dim - 1; });
  refuses("tokens overlap", bad, [](call& c) { c.out.token_stride = value_dim - 1; });
  refuses("keys overlap", bad, [](call& c) { c.k.token_stride = key_dim - 1; });
  refuses("key_dim differs", bad, [](call& c) { c.q.dim = key_dim - 1; });
  refuses("value_dim differs", bad, [](call& c) { c.out.dim = value_dim - 1; });
  refuses("out has other heads", bad, [](call& c) { c.out.heads = heads - 2; });
  refuses("heads are no multiple of KV heads", bad, [](call& c) { c.q.heads = c.out.heads = 3; });
  refuses("out is too short", bad, [](call& c) { c.out.tokens = T - 1; });
  refuses("other tokens in kv", bad, [](call& c) { c.k.tokens = c.v.tokens = T - 1; });
  refuses("other tokens in k and v", bad, [](call& c) { c.v.tokens = T - 1; });
  refuses("offsets do not begin at 0", bad, [](call& c) { c.offsets = {1, T}; });
  refuses("offsets do not end at T", bad, [](call& c) { c.offsets = {0, T - 1}; });
  refuses("offsets descend", bad, [](call& c) { c.offsets = {0, 4, 3, T}; });
  refuses("one offset", bad, [](call& c) { c.offsets = {0}; });
}

TEST_CASE("attention: sizes whose product overflows", "[errors]") {
  refuses("q", status::too_large, [](call& c) { c.q.token_stride = std::numeric_limits<std::int64_t>::max() / 2; });
  refuses("out", status::too_large, [](call& c) { c.out.head_stride = std::numeric_limits<std::int64_t>::max() / 2; });
  refuses("v", status::too_large, [](call& c) {
    c.q.tokens = c.k.tokens = c.v.tokens = c.out.tokens = huge;
    c.v.token_stride                                    = std::int64_t{1} << 40;
  });
}

TEST_CASE("attention: invalid selections", "[errors]") {
  const auto bad = status::invalid_representatives;
  refuses("none", bad, [](call& c) { c.views_.clear(); });
  refuses("neither one nor one per KV head", bad, [](call& c) { c.views_.resize(3, c.views_[0]); });
  refuses("one for two sequences", bad, [](call& c) { c.offsets = {0, 3, T}; });
  refuses("of another length", bad, [](call& c) { c.views_[0].rep = c.views_[0].rep.first(T - 1); });
  refuses("rep(i) > i", bad, [](call& c) { c.selections[0].rep[2] = 3; });
  refuses("rep(i) is no representative", bad, [](call& c) { c.selections[0].rep[3] = 1, c.selections[0].rep[1] = 0; });
  refuses("unsorted", bad, [](call& c) { std::swap(c.selections[0].indices[1], c.selections[0].indices[2]); });
  refuses("counts that do not add up", bad, [](call& c) { c.selections[0].counts[1] = 2; });
  refuses("the second KV head's", bad, [](call& c) {
    c.selections.push_back(identity_selection(T));
    c.selections[1].rep[0] = 1;
    c.views_               = views(c.selections);
  });
}

TEST_CASE("attention: selections are not looked at where nothing is selected", "[errors]") {
  for (const key_set keys : {key_set::all, key_set::near}) {
    call c;
    c.options.keys = keys;
    c.views_.clear();
    CHECK(c.run() == status::ok);
  }
}

TEST_CASE("attention: options out of range", "[errors]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  CHECK(of({.window = -1}) == status::invalid_shape);
  CHECK(of({.chunk = 0}) == status::invalid_shape);
  CHECK(of({.sink_tokens = -1}) == status::invalid_shape);
  CHECK(of({.leaf = 0}) == status::invalid_shape);
  CHECK(of({.moments = 0}) == status::invalid_shape);
  CHECK(of({.tile = 0}) == status::invalid_shape);
  CHECK(of({.chunk = 40, .tile = 16}) == status::invalid_shape);
  CHECK(of({.chunk = 8, .tile = 16}) == status::invalid_shape);
  for (const float scale : {-0.5f, 0.0f, infinity, nan}) CHECK(of({.scale = scale}) == status::invalid_shape);
  CHECK(of({.scale = 3e38f}) == status::too_large);  // in base 2 it overflows
  CHECK(of({.scale = 2e38f}) == status::ok);
  for (const float outside : {0.0f, -0.1f, 1.5f, infinity, nan})
    CHECK(of({.leaf_threshold = outside}) == status::invalid_threshold);
  for (const float outside : {0.0f, -0.1f, 1.0f, infinity, nan})
    CHECK(of({.open_above = outside}) == status::invalid_threshold);
  CHECK(of({.window = huge, .chunk = huge, .sink_tokens = huge, .leaf = huge, .moments = huge, .tile = huge}) ==
        status::ok);
  CHECK(of({.window = 0, .chunk = 1, .sink_tokens = 0, .leaf = 1, .moments = 1, .tile = 1}) == status::ok);
  CHECK(of({.leaf_threshold = 1.0f, .moments = std::nullopt, .open_above = 0x1p-149f}) == status::ok);
}

TEST_CASE("attention: what a mode does not use may have any value within its range", "[errors]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(of({.chunk = 40, .open = opening::none, .tile = 16}) == status::ok);
  CHECK(of({.chunk = 40, .open = opening::all, .tile = 16}) == status::ok);
  CHECK(of({.open = opening::none, .open_above = nan}) == status::ok);
  CHECK(of({.open = opening::all, .open_above = nan}) == status::ok);
  CHECK(of({.leaves = leaf_formation::by_order, .leaf_threshold = nan}) == status::ok);
  for (const key_set keys : {key_set::all, key_set::near})
    CHECK(of({.keys = keys, .chunk = 40, .leaf_threshold = nan, .open_above = nan}) == status::ok);
}

TEST_CASE("attention: every combination of switches is a mode or unsupported", "[errors]") {
  int modes_found = 0;
  for (const key_set keys : {key_set::all, key_set::representatives, key_set::near, key_set::near_and_far})
    for (const query_set queries : {query_set::all, query_set::representatives, query_set::grouped})
      for (const bool causal : {false, true})
        for (const bool weighted : {false, true})
          for (const leaf_formation leaves : {leaf_formation::by_order, leaf_formation::by_keys})
            for (const opening open : {opening::none, opening::by_mass, opening::all}) {
              const attention_options options = {.keys     = keys,
                                                 .queries  = queries,
                                                 .causal   = causal,
                                                 .weighted = weighted,
                                                 .leaves   = leaves,
                                                 .open     = open};
              const status            answer  = of(options);
              CHECK((answer == status::ok || answer == status::unsupported));
              modes_found += answer == status::ok;
            }
  // By both kinds of leaves: near + far with three kinds of opening, and grouped queries, closed. With every kind of
  // leaves and opening, which they do not look at: dense 2, window 1, literal 2, weighted 2, T x r 1.
  CHECK(modes_found == 2 * (3 + 1) + 6 * (2 + 1 + 2 + 2 + 1));
}
