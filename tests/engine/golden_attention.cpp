// Attention as models ask for it against what `transformers` computed in double precision (golden/make_attention.py):
// learned sink logits, ALiBi slopes, and multi-head latent attention, expanded and on the rows that are cached.

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "engine/matrix.hpp"
#include "engine/safetensors.hpp"
#include "golden.hpp"

using namespace engine;
using namespace tests;
using cascada::attention_options, cascada::key_set;

namespace {

/// Attention of one layer: all tokens at once, and one by one.
struct golden_layer {
  safetensors golden;
  std::string suffix;  // of the layer's tensors

  golden_layer(const std::string& model, int layer)
      : golden(TEST_FOLDER "/golden/attention-" + model + ".safetensors"), suffix("_" + std::to_string(layer)) {}

  matrix rows(const std::string& name) const { return whole(golden, name + suffix); }

  /// A number for each head, or none.
  std::vector<float> of_heads(const std::string& name) const {
    if (!golden.contains(name + suffix)) return {};
    const matrix values = rows(name);
    return {values.data(), values.data() + values.size()};
  }
};

cascada::heads_view<const float> heads_of(const matrix& rows, index_t heads, index_t dim) {
  return {rows.data(), static_cast<index_t>(rows.rows()), heads, dim, rows.cols(), dim};
}

struct results {
  matrix at_once, one_by_one;
};

/// Results [tokens, heads value_dim] of dense attention, as the options vary it.
results attend(const golden_layer& layer, const attention_options& options, cascada::heads_view<const float> q,
               cascada::heads_view<const float> k, cascada::heads_view<const float> v) {
  const auto                       sinks = layer.of_heads("sinks"), slopes = layer.of_heads("slopes");
  const cascada::strided_kv<float> kv = {k, v};
  cascada::attention<float>        attend(options);
  cascada::attention_state<float>  state;
  results                          out = {matrix(q.tokens, q.heads * v.dim), matrix(q.tokens, q.heads * v.dim)};
  const auto                       all = cascada::packed_heads(out.at_once.data(), q.tokens, q.heads, v.dim);
  REQUIRE(attend(q, kv, all, {.sink_logits = sinks, .slopes = slopes}) == cascada::status::ok);
  for (index_t t = 0; t < q.tokens; ++t) {
    auto one = q;
    one.data = q.row(t, 0), one.tokens = 1;
    const auto now = cascada::packed_heads(out.one_by_one.data() + t * out.one_by_one.cols(), 1, q.heads, v.dim);
    REQUIRE(attend.extend(state, one, kv, now, {.sink_logits = sinks, .slopes = slopes}) == cascada::status::ok);
  }
  return out;
}

void check(const results& ours, const matrix& golden) {
  CHECK(relative_error(ours.at_once, golden) < tolerance);
  CHECK(ours.one_by_one == ours.at_once);
}

}  // namespace

TEST_CASE("golden attention: sink logits, and a window in every second layer, as in gpt-oss", "[golden]") {
  const int          number = GENERATE(0, 1);
  const golden_layer layer("gpt-oss", number);
  const matrix       q = layer.rows("q"), k = layer.rows("k"), v = layer.rows("v");
  const auto         window = number == 0 ? std::optional<index_t>(13) : std::nullopt;
  REQUIRE(!layer.of_heads("sinks").empty());
  check(attend(layer, {.keys = key_set::all, .sliding_window = window}, heads_of(q, 4, 8), heads_of(k, 2, 8),
               heads_of(v, 2, 8)),
        layer.rows("out"));
}

TEST_CASE("golden attention: slopes, as in BLOOM and MPT", "[golden]") {
  const int          number = GENERATE(0, 1);
  const bool         bloom  = GENERATE(true, false);
  const index_t      heads  = bloom ? 3 : 5;
  const golden_layer layer(bloom ? "bloom" : "mpt", number);
  const matrix       q = layer.rows("q"), k = layer.rows("k"), v = layer.rows("v");
  REQUIRE(!layer.of_heads("slopes").empty());
  check(attend(layer, {.keys = key_set::all}, heads_of(q, heads, 8), heads_of(k, heads, 8), heads_of(v, heads, 8)),
        layer.rows("out"));
}

TEST_CASE("golden attention: multi-head latent attention, as in DeepSeek-V3", "[golden]") {
  const golden_layer layer("deepseek", GENERATE(0, 1));
  const index_t      heads = 3, key_dim = 18, value_dim = 10, latent = 20, rotated = 6;
  const matrix       q = layer.rows("q"), k = layer.rows("k"), v = layer.rows("v"), out = layer.rows("out");
  check(attend(layer, {.keys = key_set::all}, heads_of(q, heads, key_dim), heads_of(k, heads, key_dim),
               heads_of(v, heads, value_dim)),
        out);

  // The rows that are cached: keys of one head, whose first columns are the values.
  const matrix            cached_q = layer.rows("latent_q"), cached_k = layer.rows("latent_k"), up = layer.rows("up_v");
  const attention_options options = {.keys = key_set::all, .scale = 1 / std::sqrt(static_cast<float>(key_dim))};
  const auto              keys    = heads_of(cached_k, 1, latent + rotated);
  auto                    values  = keys;
  values.dim                      = latent;
  const results inner             = attend(layer, options, heads_of(cached_q, heads, latent + rotated), keys, values);
  const auto    outer             = [&](const matrix& of_heads) {
    matrix all(out.rows(), out.cols());
    for (index_t h = 0; h < heads; ++h)
      all.middleCols(h * value_dim, value_dim) =
          of_heads.middleCols(h * latent, latent) * up.middleRows(h * value_dim, value_dim).transpose();
    return all;
  };
  CHECK(relative_error(outer(inner.at_once), out) < tolerance);
  CHECK(inner.one_by_one == inner.at_once);
}
