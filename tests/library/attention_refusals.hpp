#pragma once
// Every cause for which attention refuses a call, with the sentence that is its own.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "attention_data.hpp"

namespace tests {

using namespace cascada;

constexpr index_t T = 6, heads = 4, kv_heads = 2, key_dim = 3, value_dim = 5;
constexpr index_t huge = std::numeric_limits<index_t>::max();

inline std::span<const index_t> null_span(std::size_t size) { return {static_cast<const index_t*>(nullptr), size}; }

enum class layout { strided, transposed, paged, own };

/// An engine's own view, with an answer of its own.
struct own_kv : strided_kv<float> {
  status  answer = status::ok;
  index_t count  = 2;

  index_t kv_heads() const { return count; }
  status  check() const { return answer; }
};

/// A call that is right until one part of it is spoilt.
struct call {
  attention_options            options;
  layout                       used       = layout::strided;
  std::vector<float>           q_data     = std::vector<float>(T * heads * key_dim, 1.0f);
  std::vector<float>           k_data     = std::vector<float>(T * kv_heads * key_dim, 1.0f);
  std::vector<float>           v_data     = std::vector<float>(T * kv_heads * value_dim, 1.0f);
  std::vector<float>           result     = std::vector<float>(T * heads * value_dim, 42.0f);
  heads_view<const float>      q          = packed_heads<const float>(q_data.data(), T, heads, key_dim);
  heads_view<const float>      k          = packed_heads<const float>(k_data.data(), T, kv_heads, key_dim);
  heads_view<const float>      v          = packed_heads<const float>(v_data.data(), T, kv_heads, value_dim);
  transposed_value_kv<float>   transposed = {{}, v_data.data(), value_dim, (value_dim * T), T};  // keys: k
  std::vector<index_t>         blocks     = {2, 0, 1};
  paged_kv<float>              paged      = {{}, {}, blocks, 2, T};  // keys, values: k, v
  own_kv                       own        = {};                      // keys, values: k, v
  heads_view<float>            out        = packed_heads(result.data(), T, heads, value_dim);
  std::vector<selection>       selections = {identity_selection(T)};
  std::vector<representatives> views_     = views(selections);
  std::vector<index_t>         memory = {}, key_memory = {};
  std::span<const index_t>     offsets = {}, key_offsets = {};
  std::vector<float>           sums_data   = std::vector<float>(T * heads, 42.0f);
  std::vector<float>           of_heads    = std::vector<float>(heads, 0.5f);
  std::span<const float>       sink_logits = of_heads, slopes = {};
  matrix_view<float>           sums = {sums_data.data(), T, heads, heads};

  call()            = default;
  call(const call&) = delete;

  status run() {
    attention<float, test_backend> attention(options);
    const auto                     with = [&](const auto& kv) {
      return attention(q, kv, views_, out,
                                           {.query_offsets = offsets,
                                            .key_offsets   = key_offsets,
                                            .sink_logits   = sink_logits,
                                            .slopes        = slopes,
                                            .log_sum_exp   = sums});
    };
    transposed.keys = paged.keys = own.keys = k;
    paged.values = own.values = v;
    switch (used) {
      case layout::transposed: return with(transposed);
      case layout::paged: return with(paged);
      case layout::own: return with(own);
      default: return with(strided_kv<float>{k, v});
    }
  }

  template <class... Offset>
  void cut(Offset... at) {
    offsets = memory = {at...};
  }
  template <class... Offset>
  void cut_keys(Offset... at) {
    key_offsets = key_memory = {at...};
  }
  /// All of the outputs, or none.
  bool untouched() const {
    const auto full = [](const std::vector<float>& of) { return of == std::vector<float>(of.size(), 42.0f); };
    return full(result) && full(sums_data);
  }
};

/// One cause of refusal: `answer` has the sentence that no other cause has.
struct cause {
  status answer;
  void (*spoil)(call&);
};

constexpr std::int64_t far = std::numeric_limits<std::int64_t>::max() / 2;

constexpr status shape_of(const char* why) { return {status::invalid_shape, why}; }
constexpr status selection_of(const char* why) { return {status::invalid_representatives, why}; }
constexpr status switches(const char* why) { return {status::unsupported, why}; }

inline const cause of_q_and_out[] = {
    {shape_of("q.tokens is negative"), [](call& c) { c.q.tokens = -1; }},
    {shape_of("q.heads is less than 1"), [](call& c) { c.q.heads = 0; }},
    {shape_of("q.dim is less than 1"), [](call& c) { c.q.dim = 0; }},
    {shape_of("q.data is null"), [](call& c) { c.q.data = nullptr; }},
    {shape_of("q.token_stride is less than q.dim"), [](call& c) { c.q.token_stride = key_dim - 1; }},
    {shape_of("q.head_stride is less than q.dim"), [](call& c) { c.q.head_stride = key_dim - 1; }},
    {{status::too_large, "q.tokens times q.token_stride plus q.heads times q.head_stride overflows"},
     [](call& c) { c.q.token_stride = far; }},
    {shape_of("out.tokens is negative"), [](call& c) { c.out.tokens = -1; }},
    {shape_of("out.heads is less than 1"), [](call& c) { c.out.heads = 0; }},
    {shape_of("out.dim is less than 1"), [](call& c) { c.out.dim = 0; }},
    {shape_of("out.data is null"), [](call& c) { c.out.data = nullptr; }},
    {shape_of("out.token_stride is less than out.dim"), [](call& c) { c.out.token_stride = value_dim - 1; }},
    {shape_of("out.head_stride is less than out.dim"), [](call& c) { c.out.head_stride = value_dim - 1; }},
    {{status::too_large, "out.tokens times out.token_stride plus out.heads times out.head_stride overflows"},
     [](call& c) { c.out.head_stride = far; }},
};

inline const cause of_kv[] = {
    {shape_of("kv.keys.tokens is negative"), [](call& c) { c.k.tokens = -1; }},
    {shape_of("kv.keys.heads is less than 1"), [](call& c) { c.k.heads = 0; }},
    {shape_of("kv.keys.dim is less than 1"), [](call& c) { c.k.dim = 0; }},
    {shape_of("kv.keys.data is null"), [](call& c) { c.k.data = nullptr; }},
    {shape_of("kv.keys.token_stride is less than kv.keys.dim"), [](call& c) { c.k.token_stride = key_dim - 1; }},
    {shape_of("kv.keys.head_stride is less than kv.keys.dim"), [](call& c) { c.k.head_stride = key_dim - 1; }},
    {{status::too_large,
      "kv.keys.tokens times kv.keys.token_stride plus kv.keys.heads times kv.keys.head_stride overflows"},
     [](call& c) { c.k.token_stride = far; }},
    {shape_of("kv.values.tokens is negative"), [](call& c) { c.v.tokens = -1; }},
    {shape_of("kv.values.heads is less than 1"), [](call& c) { c.v.heads = 0; }},
    {shape_of("kv.values.dim is less than 1"), [](call& c) { c.v.dim = 0; }},
    {shape_of("kv.values.data is null"), [](call& c) { c.v.data = nullptr; }},
    {shape_of("kv.values.token_stride is less than kv.values.dim"), [](call& c) { c.v.token_stride = value_dim - 1; }},
    {shape_of("kv.values.head_stride is less than kv.values.dim"), [](call& c) { c.v.head_stride = value_dim - 1; }},
    {{status::too_large,
      "kv.values.tokens times kv.values.token_stride plus kv.values.heads times kv.values.head_stride overflows"},
     [](call& c) { c.v.head_stride = far; }},
    {shape_of("kv.values.tokens differs from kv.keys.tokens"), [](call& c) { c.v.tokens = T - 1; }},
    {shape_of("kv.values.heads differs from kv.keys.heads"), [](call& c) { c.v.heads = 1; }},

    {shape_of("kv.dim is less than 1"), [](call& c) { c.used = layout::transposed, c.transposed.dim = 0; }},
    {shape_of("kv.values is null"), [](call& c) { c.used = layout::transposed, c.transposed.values = nullptr; }},
    {shape_of("kv.dim_stride is less than kv.keys.tokens"),
     [](call& c) { c.used = layout::transposed, c.transposed.dim_stride = T - 1; }},
    {shape_of("kv.head_stride is less than kv.keys.tokens"),
     [](call& c) { c.used = layout::transposed, c.transposed.head_stride = T - 1; }},
    {{status::too_large, "kv.dim times kv.dim_stride plus kv.keys.heads times kv.head_stride overflows"},
     [](call& c) { c.used = layout::transposed, c.transposed.dim_stride = far; }},

    {shape_of("kv.length is negative"), [](call& c) { c.used = layout::paged, c.paged.length = -1; }},
    {shape_of("kv.block_tokens is less than 1"), [](call& c) { c.used = layout::paged, c.paged.block_tokens = 0; }},
    {shape_of("kv.block_table has fewer blocks than kv.length tokens fill"),
     [](call& c) { c.used = layout::paged, c.paged.block_table = c.paged.block_table.first(2); }},
    {shape_of("kv.block_table is null"), [](call& c) { c.used = layout::paged, c.paged.block_table = null_span(3); }},
    {shape_of("kv.block_table has a negative block"), [](call& c) { c.used = layout::paged, c.blocks[1] = -1; }},
    {shape_of("kv.block_table has a block that does not lie in kv.keys.tokens"),
     [](call& c) { c.used = layout::paged, c.blocks[2] = 3; }},
};

inline const cause of_shapes[] = {
    {shape_of("kv.kv_heads() is less than 1"), [](call& c) { c.used = layout::own, c.own.count = 0; }},
    {shape_of("q.heads is no multiple of kv.kv_heads()"), [](call& c) { c.q.heads = c.out.heads = 3; }},
    {shape_of("a sequence has more queries than keys, which options.causal does not allow"),
     [](call& c) { c.k.tokens = c.v.tokens = T - 1; }},
    {shape_of("kv.tokens() differs from q.tokens, and key_offsets is empty"),
     [](call& c) { c.cut(0, T), c.k.tokens = c.v.tokens = T - 1; }},
    {shape_of("kv.key_dim() differs from q.dim"), [](call& c) { c.q.dim = key_dim - 1; }},
    {shape_of("out.tokens differs from q.tokens"), [](call& c) { c.out.tokens = T - 1; }},
    {shape_of("out.heads differs from q.heads"), [](call& c) { c.out.heads = heads - 2; }},
    {shape_of("out.dim differs from kv.value_dim()"), [](call& c) { c.out.dim = value_dim - 1; }},
    {shape_of("query_offsets is null"), [](call& c) { c.offsets = null_span(2); }},
    {shape_of("query_offsets does not begin at 0"), [](call& c) { c.cut(1, T); }},
    {shape_of("query_offsets does not end at q.tokens"), [](call& c) { c.cut(0, T - 1); }},
    {shape_of("query_offsets descends"), [](call& c) { c.cut(0, 4, 3, T); }},
    {shape_of("key_offsets is null"), [](call& c) { c.cut(0, T), c.key_offsets = null_span(2); }},
    {shape_of("key_offsets does not begin at 0"), [](call& c) { c.cut(0, T), c.cut_keys(1, T); }},
    {shape_of("key_offsets and query_offsets differ in length"), [](call& c) { c.cut(0, T), c.cut_keys(0, 3, T); }},
    {shape_of("key_offsets descends"), [](call& c) { c.cut(0, 0, 0, T), c.cut_keys(0, 4, 3, T); }},
    {shape_of("key_offsets ends beyond kv.tokens()"), [](call& c) { c.cut(0, T), c.cut_keys(0, T + 1); }},
};

/// Queries that would have to know of earlier ones.
inline const cause of_beginnings[] = {
    {switches("options.keys == representatives needs as many queries as keys"),
     [](call& c) {
       c.options  = {.keys = key_set::representatives, .queries = query_set::representatives};
       c.q.tokens = c.out.tokens = c.sums.rows = T - 1;
     }},
    {switches(
         "queries begin inside a chunk: with options.queries == grouped, tokens there use queries of earlier ones"),
     [](call& c) {
       c.options  = {.queries = query_set::grouped, .chunk = 4, .open = opening::none};
       c.q.tokens = c.out.tokens = c.sums.rows = T - 2;
     }},
    {switches("queries begin inside a tile, whose earlier queries open leaves: use a state"),
     [](call& c) {
       c.options  = {.chunk = 4, .tile = 4};
       c.q.tokens = c.out.tokens = c.sums.rows = T - 2;
     }},
};

inline std::span<const float> null_numbers(std::size_t size) { return {static_cast<const float*>(nullptr), size}; }

inline const cause of_calls[] = {
    {shape_of("sink_logits has not one entry for each of q.heads"),
     [](call& c) { c.sink_logits = c.sink_logits.first(heads - 1); }},
    {shape_of("sink_logits is null"), [](call& c) { c.sink_logits = null_numbers(heads); }},
    {shape_of("slopes has not one entry for each of q.heads"), [](call& c) { c.slopes = c.sink_logits.first(1); }},
    {shape_of("slopes is null"), [](call& c) { c.slopes = null_numbers(heads); }},
    {switches("slopes is not empty with options.keys == representatives: clusters have no position"),
     [](call& c) {
       c.options = {.keys = key_set::representatives, .queries = query_set::representatives};
       c.slopes  = c.of_heads;
     }},
    {switches("slopes is not empty with options.keys == near_and_far: leaves have no position unless options.open == "
              "all"),
     [](call& c) { c.slopes = c.of_heads; }},
    {shape_of("log_sum_exp.rows differs from q.tokens"), [](call& c) { c.sums.rows = T - 1; }},
    {shape_of("log_sum_exp.cols differs from q.heads"), [](call& c) { c.sums.cols = heads - 1; }},
    {shape_of("log_sum_exp.data is null"), [](call& c) { c.sums.data = nullptr; }},
    {shape_of("log_sum_exp.stride is less than log_sum_exp.cols"), [](call& c) { c.sums.stride = heads - 1; }},
    {{status::too_large, "log_sum_exp.rows times log_sum_exp.stride overflows"}, [](call& c) { c.sums.stride = far; }},
};

inline const cause of_selections[] = {
    {selection_of("selections has neither one for each sequence nor one for each of its KV heads"),
     [](call& c) { c.views_.resize(3, c.views_[0]); }},
    {selection_of("selections is empty: options.keys == representatives and leaves need them"),
     [](call& c) { c.views_.clear(); }},
    {selection_of("selections has one that is not as long as its sequence"),
     [](call& c) { c.views_[0].rep = c.views_[0].rep.first(T - 1); }},
    {selection_of("representatives.indices has more entries than tokens"),
     [](call& c) { c.selections[0].indices.resize(T + 1), c.views_ = views(c.selections); }},
    {selection_of("representatives.counts has not one entry for each of representatives.indices"),
     [](call& c) { c.views_[0].counts = c.views_[0].counts.first(T - 1); }},
    {selection_of("representatives.rep has a negative entry"), [](call& c) { c.selections[0].rep[2] = -1; }},
    {selection_of("representatives.rep names a token after the one it stands for"),
     [](call& c) { c.selections[0].rep[2] = 3; }},
    {selection_of("representatives.rep names a token that does not stand for itself"),
     [](call& c) { c.selections[0].rep[3] = 1, c.selections[0].rep[1] = 0; }},
    {selection_of("representatives.indices has an entry that is no token"),
     [](call& c) { c.selections[0].indices[5] = T; }},
    {selection_of("representatives.indices does not ascend"),
     [](call& c) { std::swap(c.selections[0].indices[1], c.selections[0].indices[2]); }},
    {selection_of("representatives.indices has a token that does not stand for itself"),
     [](call& c) { c.selections[0].rep[3] = 1; }},
    {selection_of("representatives.indices lacks a token that stands for itself"),
     [](call& c) {
       c.views_[0].indices = c.views_[0].indices.first(T - 1);
       c.views_[0].counts  = c.views_[0].counts.first(T - 1);
     }},
    {selection_of("representatives.counts are not how many tokens each of representatives.indices stands for"),
     [](call& c) { c.selections[0].counts[1] = 2; }},
};

inline const cause of_options[] = {
    {shape_of("options.window is negative"), [](call& c) { c.options.window = -1; }},
    {shape_of("options.chunk is less than 1"), [](call& c) { c.options.chunk = 0; }},
    {shape_of("options.sink_tokens is negative"), [](call& c) { c.options.sink_tokens = -1; }},
    {shape_of("options.leaf is less than 1"), [](call& c) { c.options.leaf = 0; }},
    {shape_of("options.moments is less than 1"), [](call& c) { c.options.moments = 0; }},
    {shape_of("options.tile is less than 1"), [](call& c) { c.options.tile = 0; }},
    {shape_of("options.tile does not divide options.chunk"), [](call& c) { c.options.chunk = 40; }},
    {shape_of("options.scale is not positive and finite"), [](call& c) { c.options.scale = 0.0f; }},
    {{status::too_large, "options.scale times log2(e) overflows"}, [](call& c) { c.options.scale = 3e38f; }},
    {shape_of("options.softcap is not positive and finite"), [](call& c) { c.options.softcap = -1.0f; }},
    {{status::too_large, "options.softcap times log2(e) overflows"}, [](call& c) { c.options.softcap = 3e38f; }},
    {shape_of("options.sliding_window is less than 1"), [](call& c) { c.options.sliding_window = 0; }},
    {switches("options.sliding_window needs options.keys == all"), [](call& c) { c.options.sliding_window = 4; }},
    {switches("options.sliding_window needs options.causal"),
     [](call& c) { c.options = {.keys = key_set::all, .causal = false, .sliding_window = 4}; }},
    {{status::invalid_threshold, "options.leaf_threshold does not lie in (0, 1]"},
     [](call& c) { c.options.leaf_threshold = 1.5f; }},
    {{status::invalid_threshold, "options.open_above does not lie in (0, 1)"},
     [](call& c) { c.options.open_above = 1.0f; }},
    {switches("options.causal == false needs options.keys == all or representatives"),
     [](call& c) { c.options.causal = false; }},
    {switches("options.queries == grouped needs options.keys == near_and_far"),
     [](call& c) { c.options.keys = key_set::all, c.options.queries = query_set::grouped; }},
    {switches("options.queries == grouped needs options.open == none"),
     [](call& c) { c.options.queries = query_set::grouped; }},
    {switches("options.queries == representatives needs options.keys == representatives"),
     [](call& c) { c.options.queries = query_set::representatives; }},
    {switches("options.queries == all with options.keys == representatives needs options.causal == false"),
     [](call& c) { c.options.keys = key_set::representatives; }},
    {switches("options.queries == all with options.keys == representatives needs options.weighted"),
     [](call& c) { c.options.keys = key_set::representatives, c.options.causal = false; }},
    {switches("options.weighted needs options.keys == representatives"), [](call& c) { c.options.weighted = true; }},
};

}  // namespace tests
