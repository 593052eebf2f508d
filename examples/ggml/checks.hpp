#pragma once
// What README.md says of the operation and the table does not show: bits, a far field, and refusals.

#include <cascada/presets.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include "caches.hpp"

namespace ggml_cascada::example {

inline constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// Counts what does not hold, and says it.
class checks {
 public:
  void operator()(bool holds, const char* what, const char* where = "") {
    ++made_;
    if (holds) return;
    ++failed_;
    std::fprintf(stderr, "cascada-ggml: does not hold: %s %s\n", what, where);
  }
  bool close() const {
    std::printf("%d checks, %d failed\n", made_, failed_);
    return failed_ == 0 && made_ > 0;
  }

 private:
  int made_ = 0, failed_ = 0;
};

inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// What the operation gives, [streams, tokens, heads, dim]; where it refuses to be built, nothing.
inline std::vector<float> compute(ggml_context* context, const threads& on, layer_attention& layer, const tensors& in) {
  ggml_tensor* out = nullptr;
  if (const status answer = layer.build(context, in, out); answer != status::ok)
    return std::fprintf(stderr, "cascada-ggml: %s\n", message(answer)), std::vector<float>();
  graph(context, on, {out})();
  const auto* const rows = static_cast<const float*>(out->data);
  return {rows, rows + ggml_nelements(out)};
}

inline constexpr std::size_t room = std::size_t{64} << 20;  // for any graph of these checks

/// Results do not depend on the layout, on what cells of nobody hold, on threads, or on where the order comes from.
inline void check_layouts(checks& expect, const threads& on) {
  constexpr index_t tokens = 300, queries = 37;
  const threads     alone(1);
  const auto        keys = random_rows(tokens, kv_heads * dim, 1), values = random_rows(tokens, kv_heads * dim, 2);
  const auto        all_q = random_rows(queries, heads * dim, 3);
  for (const index_t count : {queries, 1}) {
    const std::vector<float> q(all_q.end() - std::int64_t{count} * heads * dim, all_q.end());
    std::vector<float>       first[2];  // of float16, of Q8_0
    for (const layout& how : layouts) {
      if (how.keys != how.values) continue;
      const arena        context(room);
      shared_attention   shared;
      layer_attention    layer(shared);
      const bool         blocks = how.keys == GGML_TYPE_Q8_0;
      const cache        from   = make_cache(context, how, keys, values, blocks ? junk : nan);
      ggml_tensor* const rows   = make_queries(context, q);
      const tensors      in     = {
                   .q = rows, .k = from.k, .v = from.v, .mask = make_mask(context, from, count), .positions = from.positions};
      const auto out = compute(context, on, layer, in);
      if (first[blocks].empty()) first[blocks] = out;
      expect(!out.empty() && same(out, first[blocks]), "the same in every layout:", how.name);
      expect(same(out, compute(context, alone, layer, in)), "the same on one thread:", how.name);
      tensors other = in;
      other.mask    = make_mask(context, from, count, GGML_TYPE_F32);
      expect(same(out, compute(context, on, layer, other)), "the same by a mask of F32:", how.name);
      other.positions     = nullptr;
      const auto by_mask  = compute(context, on, layer, other);
      const auto distance = exact_rows(q, from).error_of(by_mask.data());
      expect(distance <= tolerance && (how.shuffled || same(out, by_mask)), "the same by the mask alone:", how.name);
      other.mask = nullptr;
      if (count == 1 && !how.padded) expect(same(by_mask, compute(context, on, layer, other)), "no mask:", how.name);
      expect(shared.answer() == status::ok, "nothing was refused:", how.name);
    }
    expect(!same(first[0], first[1]), "Q8_0 is not float16");
  }
}

/// Streams are what each is alone.
inline void check_streams(checks& expect, const threads& on) {
  const arena        context(room);
  shared_attention   shared;
  layer_attention    layer(shared);
  tensors            both;
  std::vector<float> apart;
  for (const index_t tokens : {300, 400}) {
    const cache   from = make_cache(context, {.shuffled = true, .padded = true}, random_rows(tokens, kv_heads * dim, 1),
                                    random_rows(tokens, kv_heads * dim, 2));
    const tensors in   = {.q         = make_queries(context, random_rows(5, heads * dim, 3)),
                          .k         = from.k,
                          .v         = from.v,
                          .mask      = make_mask(context, from, 5),
                          .positions = from.positions};
    const auto    out  = compute(context, on, layer, in);
    apart.insert(apart.end(), out.begin(), out.end());
    if (tokens == 300) {
      both = in;
      continue;
    }
    for (ggml_tensor* tensors::* each : {&tensors::q, &tensors::k, &tensors::v, &tensors::mask})
      both.*each = ggml_concat(context, both.*each, in.*each, 3);
    both.positions = ggml_concat(context, both.positions, in.positions, 1);
  }
  expect(same(apart, compute(context, on, layer, both)), "two streams are what each is alone");
  expect(shared.answer() == status::ok, "nothing was refused: streams");
}

/// A softcap, sinks and a sliding window mean what they mean to ggml.
inline void check_terms(checks& expect, const threads& on) {
  constexpr index_t tokens = 300, queries = 5, window = 100;
  constexpr float   cap = 2;
  const arena       context(room);
  shared_attention  shared({.keys = cascada::key_set::all, .softcap = cap, .sliding_window = window});
  layer_attention   layer(shared);
  const cache   from = make_cache(context, {.shuffled = true, .padded = true}, random_rows(tokens, kv_heads * dim, 1),
                                  random_rows(tokens, kv_heads * dim, 2));
  const auto    q = random_rows(queries, heads * dim, 3), sinks = random_rows(1, heads, 4);
  const tensors in = {.q         = make_queries(context, q),
                      .k         = from.k,
                      .v         = from.v,
                      .mask      = make_mask(context, from, queries, GGML_TYPE_F16, window),
                      .positions = from.positions,
                      .sinks     = ggml_new_tensor_1d(context, GGML_TYPE_F32, heads)};
  std::copy(sinks.begin(), sinks.end(), static_cast<float*>(in.sinks->data));
  ggml_tensor* const theirs =
      ggml_flash_attn_ext(context, in.q, in.k, in.v, in.mask, 1 / std::sqrt(float{dim}), 0, cap);
  ggml_flash_attn_ext_add_sinks(theirs, in.sinks);
  graph(context, on, {theirs})();
  const exact_rows exact(q, from, {cap, sinks.data(), window}), plain(q, from);
  const auto       out = compute(context, on, layer, in);
  expect(exact.error_of(out.data()) <= tolerance, "softcap, sinks and window are exact");
  expect(exact.error_of(static_cast<const float*>(theirs->data)) <= tolerance_of_ggml({}, tokens), "they are ggml's");
  expect(plain.error_of(out.data()) > 0.1, "they change something");
  expect(shared.answer() == status::ok, "nothing was refused: terms");

  // Cells that nobody sees any more may be another's.
  for (index_t t = 0; t < tokens - queries - window; ++t)
    static_cast<std::int32_t*>(in.positions->data)[from.cell[at(t)]] = -1;
  expect(same(out, compute(context, on, layer, in)), "the same without what the window has passed");
  expect(shared.answer() == status::ok, "nothing was refused: window");
}

/// A sequence of two layers, cut into calls; cells lie elsewhere in each.
class far_field {
 public:
  static constexpr index_t tokens = 600, width = 48;

  explicit far_field(index_t groups) : groups_(groups) {
    // Tokens that resemble each other in features and keys, as a text's do: so there are clusters, and leaves.
    for (int l = 0; l < 2; ++l) features_[l] = alike(groups * width, 10 + static_cast<unsigned>(l));
    keys_   = alike(kv_heads * dim, 20);
    values_ = random_rows(tokens, kv_heads * dim, 2);
    q_      = random_rows(tokens, heads * dim, 3);
  }

  /// The same tokens with the features of one group alone.
  far_field only(index_t kept) const {
    far_field one = *this;
    one.groups_   = 1;
    for (auto& rows : one.features_) {
      std::vector<float> some;
      for (index_t t = 0; t < tokens; ++t) {
        const auto begin = rows.begin() + (std::int64_t{t} * groups_ + kept) * width;
        some.insert(some.end(), begin, begin + width);
      }
      rows = some;
    }
    return one;
  }

  /// Results [layers, last - first, heads, dim] of tokens [first, last).
  std::vector<float> attend(const threads& on, layer_attention (&layers)[2], index_t first, index_t last,
                            bool transposed = false) const {
    std::vector<float> all;
    for (int l = 0; l < 2; ++l) {
      const arena        context(room);
      const cache        from = make_cache(context, {.transposed = transposed, .shuffled = true, .padded = true},
                                           part(keys_, 0, last), part(values_, 0, last), nan);
      ggml_tensor* const x    = ggml_new_tensor_3d(context, GGML_TYPE_F32, width, groups_, last - first);
      const auto         rows = part(features_[l], first, last);
      std::copy(rows.begin(), rows.end(), static_cast<float*>(x->data));
      const auto out = compute(context, on, layers[l],
                               {.q         = make_queries(context, part(q_, first, last)),
                                .k         = from.k,
                                .v         = from.v,
                                .mask      = make_mask(context, from, last - first),
                                .positions = from.positions,
                                .features  = x});
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }

  /// Of results of all tokens, those of [first, last), as attend() has them.
  static std::vector<float> rows_of(const std::vector<float>& all, index_t first, index_t last) {
    std::vector<float> rows;
    for (std::int64_t l = 0; l < 2; ++l) {
      const auto begin = all.begin() + l * tokens * heads * dim;
      rows.insert(rows.end(), begin + std::int64_t{first} * heads * dim, begin + std::int64_t{last} * heads * dim);
    }
    return rows;
  }

 private:
  static std::vector<float> alike(index_t columns, unsigned seed) {
    constexpr index_t kinds = 20;
    const auto        kind  = random_rows(kinds, columns, seed);
    auto              rows  = random_rows(tokens, columns, seed + 100);
    for (index_t t = 0; t < tokens; ++t)
      for (index_t c = 0; c < columns; ++c)
        rows[at(t * columns + c)] = kind[at(t * 7 % kinds * columns + c)] + 0.3f * rows[at(t * columns + c)];
    return rows;
  }
  static std::vector<float> part(const std::vector<float>& rows, index_t first, index_t last) {
    const auto columns = static_cast<std::int64_t>(rows.size()) / tokens;
    return {rows.begin() + first * columns, rows.begin() + last * columns};
  }

  index_t            groups_;
  std::vector<float> features_[2], keys_, values_, q_;
};

/// Near + far: a prompt in two pieces and then token by token is, bit for bit, one call.
inline void check_far_field(checks& expect, const threads& on, index_t groups) {
  constexpr index_t tokens = far_field::tokens;
  const far_field   text(groups);
  const threads     alone(1);
  auto              options = cascada::presets::balanced.attention;
  options.open_above        = 0.12f;  // some leaves of so short a text open, others stay closed
  options.window = options.chunk = 64;
  shared_attention shared(options);
  const auto       selection = cascada::presets::balanced.selection;
  const auto pair = [&](layer_attention(&layers)[2]) { layers[1] = layer_attention(shared, selection, &layers[0]); };

  layer_attention whole[2] = {layer_attention(shared, selection), layer_attention(shared, selection)};
  pair(whole);
  const auto at_once = text.attend(on, whole, 0, tokens);
  const auto read    = shared.report();
  expect(!at_once.empty() && read.opened > 0 && read.share_of_dense() < 0.9, "there is a far field");

  for (index_t g = 0; groups > 1 && g < groups; ++g) {
    layer_attention one[2] = {layer_attention(shared, selection), layer_attention(shared, selection)};
    pair(one);
    const auto own   = text.only(g).attend(on, one, 0, tokens);
    bool       equal = own.size() == at_once.size();
    for (std::size_t i = 0; equal && i < own.size(); ++i)
      equal = i / dim % heads / group != at(g) || own[i] == at_once[i];
    expect(equal, "a KV head selects by its own features");
  }

  layer_attention cut[2] = {layer_attention(shared, selection), layer_attention(shared, selection)};
  pair(cut);
  const auto step = [&](index_t first, index_t last, const threads& where, bool transposed = false) {
    return same(text.attend(where, cut, first, last, transposed), far_field::rows_of(at_once, first, last));
  };
  expect(step(0, 300, on), "the first piece is that of one call");
  expect(step(300, 550, alone, true), "the second piece is that of one call");
  bool each = true;
  for (index_t t = 550; t < tokens; ++t) each = step(t, t + 1, on, t % 2 == 0) && each;
  expect(each, "tokens one by one are those of one call");
  expect(step(tokens - 4, tokens, on), "the last tokens again are what they were");
  expect(step(0, 300, on), "a sequence that begins anew is what it was");
  expect(shared.answer() == status::ok, "nothing was refused: far field");

  expect(text.attend(on, cut, 301, 302).size() == 2 * heads * dim && shared.answer() == status::unsupported,
         "a cache that holds unknown tokens is refused");
  cut[0].clear(0), cut[1].clear(0);
  expect(step(0, 300, on), "a sequence that was cleared begins anew");
  expect(shared.answer() == status::ok, "nothing was refused: cleared");
}

/// Tensors of a call that is fine, to be spoilt.
struct fine_call {
  arena   context{room};
  cache   from = make_cache(context, {.shuffled = true, .padded = true}, random_rows(40, kv_heads* dim, 1),
                            random_rows(40, kv_heads* dim, 2));
  tensors in   = {.q         = make_queries(context, random_rows(3, heads* dim, 3)),
                  .k         = from.k,
                  .v         = from.v,
                  .mask      = make_mask(context, from, 3),
                  .positions = from.positions};

  ggml_tensor* make(ggml_type type, std::int64_t a, std::int64_t b = 1, std::int64_t c = 1, std::int64_t d = 1) const {
    return ggml_new_tensor_4d(context, type, a, b, c, d);
  }
  ggml_fp16_t& mask_at(index_t query, index_t token) const {
    return static_cast<ggml_fp16_t*>(in.mask->data)[std::int64_t{query} * from.cells() + from.cell[at(token)]];
  }
  std::int32_t& position_of(index_t token) const {
    return static_cast<std::int32_t*>(in.positions->data)[from.cell[at(token)]];
  }
};

struct refusal {
  const char* sentence;
  void (*spoil)(fine_call& call);
  cascada::attention_options options = {.keys = cascada::key_set::all};
};

inline constexpr cascada::attention_options far_options = {.keys = cascada::key_set::near_and_far};

inline const refusal refused_when_built[] = {
    {"q, k or v is null", [](fine_call& of) { of.in.v = nullptr; }},
    {"q is not F32", [](fine_call& of) { of.in.q = of.make(GGML_TYPE_F16, dim, 3, heads); }},
    {"k is neither F16 nor Q8_0",
     [](fine_call& of) { of.in.k = of.make(GGML_TYPE_Q4_0, dim, of.from.cells(), kv_heads); }},
    {"v is neither F16 nor Q8_0",
     [](fine_call& of) { of.in.v = of.make(GGML_TYPE_BF16, dim, of.from.cells(), kv_heads); }},
    {"v is Q8_0 beside k of F16",
     [](fine_call& of) { of.in.v = of.make(GGML_TYPE_Q8_0, dim, of.from.cells(), kv_heads); }},
    {"q has rows whose elements are not next to each other",
     [](fine_call& of) { of.in.q = ggml_transpose(of.context, of.make(GGML_TYPE_F32, 3, dim, heads)); }},
    {"k has rows whose elements are not next to each other",
     [](fine_call& of) {
       of.in.k = ggml_transpose(of.context, of.make(GGML_TYPE_F16, of.from.cells(), dim, kv_heads));
     }},
    {"k has rows of another length than q",
     [](fine_call& of) { of.in.k = of.make(GGML_TYPE_F16, 2 * dim, of.from.cells(), kv_heads); }},
    {"v has not as many cells as k", [](fine_call& of) { of.in.v = ggml_transpose(of.context, of.in.v); }},
    {"v has not as many heads as k",
     [](fine_call& of) { of.in.v = of.make(GGML_TYPE_F16, dim, of.from.cells(), heads); }},
    {"the heads of q are no multiple of those of k",
     [](fine_call& of) { of.in.q = of.make(GGML_TYPE_F32, dim, 3, heads - 1); }},
    {"q, k and v have not as many streams", [](fine_call& of) { of.in.q = of.make(GGML_TYPE_F32, dim, 3, heads, 2); }},
    {"mask is null, and q has several tokens", [](fine_call& of) { of.in.mask = nullptr; }},
    {"mask is neither F16 nor F32", [](fine_call& of) { of.in.mask = of.make(GGML_TYPE_I32, of.from.cells(), 64); }},
    {"mask has not as many columns as k has cells", [](fine_call& of) { of.in.mask = of.make(GGML_TYPE_F16, 40, 64); }},
    {"mask has fewer rows than q has tokens",
     [](fine_call& of) { of.in.mask = of.make(GGML_TYPE_F16, of.from.cells(), 2); }},
    {"mask differs from head to head",
     [](fine_call& of) { of.in.mask = of.make(GGML_TYPE_F16, of.from.cells(), 64, heads); }},
    {"mask has neither one stream nor as many as q",
     [](fine_call& of) { of.in.mask = of.make(GGML_TYPE_F16, of.from.cells(), 64, 1, 3); }},
    {"positions is not I32", [](fine_call& of) { of.in.positions = of.make(GGML_TYPE_F32, of.from.cells()); }},
    {"positions is not [cells, streams]", [](fine_call& of) { of.in.positions = of.make(GGML_TYPE_I32, 40); }},
    {"positions is null with a far field or a sliding window",
     [](fine_call& of) { of.in.positions = nullptr; },
     {.keys = cascada::key_set::all, .sliding_window = 8}},
    {"sinks is not F32", [](fine_call& of) { of.in.sinks = of.make(GGML_TYPE_F16, heads); }},
    {"sinks has not one entry for each head of q",
     [](fine_call& of) { of.in.sinks = of.make(GGML_TYPE_F32, kv_heads); }},
    {"features is for near + far", [](fine_call& of) { of.in.features = of.make(GGML_TYPE_F32, 8, 1, 3); }},
    {"features is null with a far field", [](fine_call&) {}, far_options},
    {"features is not F32", [](fine_call& of) { of.in.features = of.make(GGML_TYPE_F16, 8, 1, 3); }, far_options},
    {"features is not [width, 1 or kv_heads, tokens, streams]",
     [](fine_call& of) { of.in.features = of.make(GGML_TYPE_F32, 8, 3); }, far_options},
    {"options name a mode in which sequences cannot grow",
     [](fine_call&) {},
     {.keys = cascada::key_set::representatives, .queries = cascada::query_set::representatives}},
    {"options.softcap is not positive and finite",
     [](fine_call&) {},
     {.keys = cascada::key_set::all, .softcap = -1.0f}},
};

inline constexpr const char* other_mask = "mask is not causal with cells of nobody, as the order of the cells has it";
inline constexpr const char* no_order   = "positions has one twice, or leaves one out";

inline const refusal refused_when_computed[] = {
    {other_mask, [](fine_call& of) { of.mask_at(1, 39) = 0; }},  // a token sees a later one
    {other_mask,
     [](fine_call& of) { of.mask_at(2, 5) = ggml_fp32_to_fp16(-INFINITY); }},  // one does not see an earlier one
    {other_mask, [](fine_call& of) { of.mask_at(2, 5) = ggml_fp32_to_fp16(-1.5f); }},  // ALiBi's, or another bias
    {other_mask, [](fine_call& of) { of.mask_at(0, 5) = ggml_fp32_to_fp16(nan); }},
    {other_mask, [](fine_call& of) { of.position_of(39) = -1; }},  // somebody else's cell is seen
    {other_mask,
     [](fine_call& of) { of.in.positions = nullptr, of.mask_at(1, 39) = 0; }},  // the same by the mask alone
    {other_mask, [](fine_call& of) { of.in.positions = nullptr, of.mask_at(2, 5) = ggml_fp32_to_fp16(-INFINITY); }},
    {other_mask, [](fine_call&) {}, {.keys = cascada::key_set::all, .sliding_window = 8}},  // the mask has no window
    {other_mask, [](fine_call&) {}, {.keys = cascada::key_set::all, .causal = false}},
    {no_order, [](fine_call& of) { of.position_of(7) = 8; }},
    {no_order, [](fine_call& of) { of.position_of(7) = 80; }},
    {no_order, [](fine_call& of) { of.position_of(7) = -1; }},
    {"positions has no token of the sequence",
     [](fine_call& of) {
       for (index_t t = 0; t < 40; ++t) of.position_of(t) = -1;
     }},
    {"the cache holds fewer tokens of the sequence than q has",
     [](fine_call& of) {
       for (index_t t = 2; t < 40; ++t) of.position_of(t) = -1;
     }},
    {"mask is null, and not every cell is to be seen",
     [](fine_call& of) { of.in.mask = nullptr, of.in.q = make_queries(of.context, random_rows(1, heads * dim, 3)); }},
    {"positions does not begin at 0, as leaves of a far field do",
     [](fine_call& of) {
       for (index_t t = 0; t < 40; ++t) of.position_of(t) = t + 1;
       of.in.features = of.make(GGML_TYPE_F32, 8, 1, 3);
     },
     far_options},
    {"the cache holds tokens that did not come through this operation",
     [](fine_call& of) { of.in.features = of.make(GGML_TYPE_F32, 8, 1, 3); }, far_options},
};

/// Each spoilt call in its sentence: at once, or by an answer, results of NaN, and a next call that goes well.
inline void check_refusals(checks& expect, const threads& on) {
  for (const refusal& each : refused_when_built) {
    fine_call        call;
    shared_attention shared(each.options);
    layer_attention  layer(shared);
    ggml_tensor*     out = call.in.q;
    each.spoil(call);
    const status answer = layer.build(call.context, call.in, out);
    expect(answer != status::ok && message(answer) == std::string_view(each.sentence), "refused:", each.sentence);
    expect(out && out->op != GGML_OP_CUSTOM, "nothing was built:", each.sentence);
  }
  for (const refusal& each : refused_when_computed) {
    fine_call        call;
    shared_attention shared(each.options);
    layer_attention  layer(shared);
    each.spoil(call);
    const auto   out    = compute(call.context, on, layer, call.in);
    const status answer = shared.answer();
    expect(answer != status::ok && message(answer) == std::string_view(each.sentence), "refused:", each.sentence);
    expect(!out.empty() && std::all_of(out.begin(), out.end(), [](float x) { return std::isnan(x); }),
           "NaN:", each.sentence);
    expect(shared.answer() == status::ok, "an answer is given once:", each.sentence);
  }
  fine_call        call;
  shared_attention shared;
  layer_attention  layer(shared);
  const auto       out = compute(call.context, on, layer, call.in);
  expect(shared.answer() == status::ok && std::none_of(out.begin(), out.end(), [](float x) { return std::isnan(x); }),
         "what is not spoilt is fine");
}

inline bool check_all(const threads& on) {
  checks expect;
  check_layouts(expect, on);
  check_streams(expect, on);
  check_terms(expect, on);
  check_far_field(expect, on, 1);
  check_far_field(expect, on, kv_heads);
  check_refusals(expect, on);
  return expect.close();
}

}  // namespace ggml_cascada::example
