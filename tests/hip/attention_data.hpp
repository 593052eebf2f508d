#pragma once
// Problems for attention on the simulated gfx942, or a real one.

#include <algorithm>
#include <cmath>
#include <vector>

#include "cascada/cascada.hpp"
#include "cascada/hip.hpp"
#include "catch.hpp"
#include "hip/chip.hpp"
#include "library/attention_data.hpp"

#ifndef ROW_TYPES  // of the tests; mutants are compiled often, and for one
#define ROW_TYPES bfloat16, float16
#endif

/// Slices of 32 tokens, or of one band, so that short sequences have several.
template <>
inline constexpr std::int64_t cascada::hip::attention::table_words<simulator::stream> = 1;

/// Segments of 64 keys, side by side for one or two blocks of queries, so that short sequences have both ways.
template <>
inline constexpr cascada::index_t cascada::hip::attention::segment_tiles<simulator::stream> = 2;
template <>
inline constexpr cascada::index_t cascada::hip::attention::few_blocks<simulator::stream> = 2;

namespace tests {

using namespace cascada;

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
  hip::selection_layer layer() const {
    return {host.indices.data(), host.rep.data(), host.counts.data(), &count, static_cast<index_t>(host.rep.size())};
  }

  selection host;
  index_t   count;
};

/// Of `each` numbers a token, those of tokens [begin, end).
inline std::vector<float> part_of(const std::vector<float>& all, index_t each, index_t begin, index_t end) {
  return {all.begin() + std::ptrdiff_t{begin} * each, all.begin() + std::ptrdiff_t{end} * each};
}
inline std::vector<float> part_of(const std::vector<float>& all, const shape& size, index_t begin, index_t end) {
  return part_of(all, size.heads * size.value_dim, begin, end);
}

/// The selections of the first tokens.
inline std::vector<selection> first_of(const std::vector<selection>& all, index_t tokens) {
  std::vector<selection> some;
  for (const selection& one : all) some.emplace_back(std::vector<index_t>(one.rep.begin(), one.rep.begin() + tokens));
  return some;
}

/// Rows [begin, end) of the problem's first `end` tokens. `call` is without what the problem brings.
template <class Out, class Scalar>
std::vector<float> attend_part(const attention_options& options, const problem<Scalar>& p,
                               const std::vector<selection>& selections, index_t begin, index_t end,
                               const simulator::stream& where, attention_call call = {}) {
  device_heads<Scalar>              q(rows_of(p.q.view(), begin, end));
  device_heads<Scalar>              k(rows_of(p.k.view(), 0, end)), v(rows_of(p.v.view(), 0, end));
  device_heads<Out>                 out(end - begin, p.size.heads, p.size.value_dim);
  std::vector<device_selection>     kept(selections.begin(), selections.end());
  std::vector<hip::selection_layer> layers;
  for (const auto& one : kept) layers.push_back(one.layer());
  attention<Scalar, simulator::stream> attention(options, where);
  const strided_kv<Scalar>             kv = {k.view(), v.view()};
  call.sink_logits = p.sink_logits, call.slopes = p.slopes;
  REQUIRE(attention(q.view(), kv, layers, out.view(), call) == status::ok);
  return out.packed();
}

template <class Out, class Scalar>
std::vector<float> attend_on_device(const attention_options& options, const problem<Scalar>& p,
                                    const std::vector<selection>& selections, const simulator::stream& where,
                                    const std::vector<index_t>& offsets = {}) {
  return attend_part<Out>(options, p, selections, 0, p.size.tokens, where, {.query_offsets = offsets});
}

template <class Out, class Scalar>
std::vector<float> attend_on_device(const attention_options& options, const problem<Scalar>& p,
                                    const std::vector<selection>& selections, unsigned seed,
                                    const std::vector<index_t>& offsets = {}) {
  return attend_on_device<Out>(options, p, selections, simulator::seeded(seed), offsets);
}

/// A sink logit of its own for each head.
template <class Scalar>
void give_sink_logits(problem<Scalar>& p) {
  for (index_t h = 0; h < p.size.heads; ++h) p.sink_logits.push_back(2.0f - static_cast<float>(h));
}

/// The arrays of a call's workspace, in device memory, and then where the host reads them.
template <class Scalar, class Stream>
class workspace_of_call {
 public:
  workspace_of_call(const attention_options& options, const hip::attention::sequence_sizes& sizes, const Stream& where)
      : options_(options), sizes_(sizes), where_(where), memory_(where) {
    REQUIRE(memory_.carve([&](hip::carver& from) { cut(from); }) == status::ok);
  }

  void clear() { REQUIRE(where_.clear(memory_.data(), memory_.size()) == status::ok); }

  /// From here on the arrays are the host's.
  void read() {
    host_.resize(memory_.size() / sizeof(line) + 1);
    REQUIRE(where_.download(host_.data(), memory_.data(), memory_.size()) == status::ok);
    hip::carver on_host(host_.data());
    cut(on_host);
  }

  hip::attention::attention_memory<Scalar, Stream> arrays;

 private:
  struct alignas(128) line {
    std::byte bytes[128];
  };

  void cut(hip::carver& from) {
    arrays = {};
    arrays.cut(from, options_, sizes_);
  }

  attention_options              options_;
  hip::attention::sequence_sizes sizes_;
  Stream                         where_;
  hip::device_memory<Stream>     memory_;
  std::vector<line>              host_;
};

/// Puts keys around those of earlier tokens: of many dimensions, random ones are not alike.
template <class Scalar>
void gather_keys(problem<Scalar>& p, float spread = 0.7f) {
  for (index_t t = 1; t < p.size.tokens; ++t)
    for (index_t h = 0; h < p.size.kv_heads; ++h)
      for (index_t c = 0; c < p.size.key_dim; ++c) {
        Scalar&     x     = p.k.view().row(t, h)[c];
        const float other = to_float(p.k.view().row(t / 5, h)[c]);
        x                 = from_float<Scalar>(other + spread * to_float(x));
      }
}

/// Near + far, closed: leaves by order.
inline attention_options closed(attention_options with = {}) {
  with.leaves = leaf_formation::by_order, with.open = opening::none;
  return with;
}

/// The same, with leaves that open by mass.
inline attention_options opened(attention_options with = {}) {
  with.leaves = leaf_formation::by_order, with.open = opening::by_mass;
  return with;
}

/// The modes that the device has.
inline std::vector<mode> device_modes() {
  std::vector<mode> all = {
      {"closed, no sinks, no window, chunks of one", closed({.window = 0, .chunk = 1, .sink_tokens = 0, .leaf = 3})},
      {"closed, sinks of several chunks", closed({.window = 4, .chunk = 8, .sink_tokens = 21, .leaf = 2})},
      {"closed, one moment", closed({.window = 8, .chunk = 16, .leaf = 5, .moments = 1})},
      {"closed, two moments, keys far apart",
       closed({.window = 8, .chunk = 16, .leaf = 7, .moments = 2, .scale = 0.5f})},
      {"closed, four moments", closed({.window = 8, .chunk = 16, .moments = 4, .scale = 0.2f})},
      {"closed, leaves of one", closed({.window = 8, .chunk = 16, .leaf = 1})},
      {"closed, no correction", closed({.window = 8, .chunk = 16, .leaf = 5, .moments = std::nullopt})},
      {"grouped, more sinks", closed({.queries = query_set::grouped, .window = 8, .chunk = 24, .sink_tokens = 5})},
      {"closed, by keys", {.window = 8, .chunk = 16, .leaf_threshold = 0.1f, .leaf = 3, .open = opening::none}},
      {"window, softcap", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2, .softcap = 1.0f}},
      {"closed, softcap that leaves reach",
       closed({.window = 8, .chunk = 16, .leaf = 5, .scale = 0.4f, .softcap = 2.0f})},
      {"grouped, softcap",
       closed({.queries = query_set::grouped, .window = 8, .chunk = 24, .sink_tokens = 5, .softcap = 0.7f})},
      {"grouped, by keys",
       {.queries = query_set::grouped, .window = 8, .chunk = 24, .leaf_threshold = 0.05f, .open = opening::none}},
  };
  for (const auto& mode : modes) {
    const attention_options& o = mode.options;
    if (o.summaries != summary_type::as_multiplied) continue;
    if (o.keys != key_set::near_and_far || o.moments != 3) all.push_back(mode);
  }
  return all;
}

}  // namespace tests
