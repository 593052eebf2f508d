#pragma once
// attention on gfx942: the class of attention.hpp for rows in device memory.

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "cascada/attention.hpp"
#include "cascada/hip/attend.hpp"
#include "cascada/hip/memory.hpp"

namespace cascada {

/// Softmax attention on gfx942, as attention.hpp says, on the caller's stream, with these limits (else `unsupported`):
/// key_dim = value_dim = 64, 128 or 256; keys and values strided; no grouped queries, no refinement, no weighted r x r
/// in its causal form; rows 16-byte aligned, strides multiples of 8. Means of clusters are rounded to Scalar, and so are
/// the softmax's weights before they meet the values. A NaN in v can reach rows up to 31 tokens before it.
///
/// selections   one per sequence, as selector and cascade keep it on the device. Where it has failed nothing is written
template <row_scalar Scalar, gfx942_backend B>
class attention<Scalar, B> {
 public:
  explicit attention(attention_options options = {}, B where = {})
      : options_(options), where_(where), memory_(where) {}

  template <row_scalar Out>
    requires std::same_as<Out, Scalar> || std::same_as<Out, float>
  [[nodiscard]] status operator()(heads_view<const Scalar> q, const strided_kv<Scalar>& kv,
                                  std::span<const hip::selection_layer> selections, heads_view<Out> out,
                                  std::span<const index_t> sequence_offsets = {}) {
    const index_t whole[] = {0, q.tokens};
    const auto    offsets = sequence_offsets.empty() ? std::span<const index_t>(whole) : sequence_offsets;
    if (const status answer = cascada::check(options_); answer != status::ok) return answer;
    if (const status answer = kernel::check_shapes<default_backend>(q, kv, out, offsets); answer != status::ok)
      return answer;
    if (const status answer = check_device(q, kv, out); answer != status::ok) return answer;
    if (selects() && selections.size() != offsets.size() - 1) return status::invalid_representatives;
    index_t longest = 0;
    for (std::size_t s = 1; s < offsets.size(); ++s) longest = std::max(longest, offsets[s] - offsets[s - 1]);
    if (const status answer = reserve(longest, q.heads, kv); answer != status::ok) return answer;
    for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
      const index_t begin = offsets[s], tokens = offsets[s + 1] - begin;
      if (tokens == 0) continue;
      const strided_kv<Scalar> own_kv = {part(kv.keys, begin, tokens), part(kv.values, begin, tokens)};
      const status             answer = run(part(q, begin, tokens), own_kv,
                                            selects() ? selections[s] : hip::selection_layer{}, part(out, begin, tokens));
      if (answer != status::ok) return answer;
    }
    return status::ok;
  }

 private:
  template <class Row>
  static heads_view<Row> part(heads_view<Row> all, index_t begin, index_t tokens) noexcept {
    all.data += begin * all.token_stride, all.tokens = tokens;
    return all;
  }

  bool selects() const noexcept {
    return options_.keys == key_set::representatives || options_.keys == key_set::near_and_far;
  }
  /// Whether clusters stand for their tokens, rather than representatives for themselves.
  bool summarises() const noexcept {
    return options_.keys == key_set::near_and_far || (options_.keys == key_set::representatives && options_.weighted);
  }

  /// Whether clusters ask with their mean query.
  bool means_ask() const noexcept { return summarises() && options_.queries == query_set::representatives; }

  template <class Out>
  status check_device(const heads_view<const Scalar>& q, const strided_kv<Scalar>& kv,
                      const heads_view<Out>& out) const noexcept {
    const auto aligned = [](const auto& rows) {
      const auto address = reinterpret_cast<std::uintptr_t>(rows.data);
      return address % 16 == 0 && rows.token_stride % 8 == 0 && rows.head_stride % 8 == 0;
    };
    const bool dims = q.dim == out.dim && (q.dim == 64 || q.dim == 128 || q.dim == 256);
    if (!dims || !aligned(q) || !aligned(kv.keys) || !aligned(kv.values)) return status::unsupported;
    if (options_.queries == query_set::grouped || options_.budget > 0) return status::unsupported;
    return options_.weighted && options_.causal ? status::unsupported : status::ok;
  }

  status reserve(index_t tokens, index_t heads, const strided_kv<Scalar>& kv) {
    if (!summarises()) return status::ok;
    const auto cut = [&](hip::carver& from) {
      const std::int64_t fields = options_.keys == key_set::near_and_far ? (tokens + options_.chunk - 1) / options_.chunk : 1;
      const std::int64_t rows   = std::int64_t{tokens} * kv.kv_heads() * kv.key_dim();
      from.cut(clusters_.offsets, tokens + 1), from.cut(clusters_.members, tokens);
      from.cut(clusters_.far_rows, fields * tokens), from.cut(clusters_.far_count, fields);
      from.cut(mean_keys_, rows), from.cut(mean_values_, rows);
      if (means_ask()) from.cut(mean_queries_, std::int64_t{tokens} * heads * kv.key_dim());
    };
    hip::carver size;
    cut(size);
    if (const status answer = memory_.reserve(size.bytes()); answer != status::ok) return answer;
    hip::carver arrays(memory_.data());
    cut(arrays);
    return status::ok;
  }

  status summarise(const heads_view<const Scalar>& q, const strided_kv<Scalar>& kv, const hip::selection_layer& layer) {
    const bool whole  = options_.keys == key_set::representatives;
    status     answer = where_.launch(hip::cluster_offsets{layer, clusters_});
    if (answer == status::ok) answer = where_.launch(hip::cluster_members{layer, clusters_, kv.tokens()});
    if (answer == status::ok)
      answer = where_.launch(hip::cluster_means<Scalar>{layer, clusters_, kv.keys, mean_keys_});
    if (answer == status::ok)
      answer = where_.launch(hip::cluster_means<Scalar>{layer, clusters_, kv.values, mean_values_});
    if (answer == status::ok && means_ask())
      answer = where_.launch(hip::cluster_means<Scalar>{layer, clusters_, q, mean_queries_});
    if (answer == status::ok)
      answer = where_.launch(
          hip::far_fields{layer, clusters_, kv.tokens(), options_.chunk, options_.window, whole});
    return answer;
  }

  template <class Out>
  status run(const heads_view<const Scalar>& q, const strided_kv<Scalar>& kv, const hip::selection_layer& layer,
             const heads_view<Out>& out) {
    if (summarises())
      if (const status answer = summarise(q, kv, layer); answer != status::ok) return answer;
    const status answer = q.dim == 64    ? launch<64>(q, kv, layer, out)
                          : q.dim == 128 ? launch<128>(q, kv, layer, out)
                                         : launch<256>(q, kv, layer, out);
    if (answer != status::ok || options_.queries != query_set::representatives) return answer;
    return where_.launch(hip::lift<Out>{layer, out});
  }

  template <index_t Dim, class Out>
  status launch(const heads_view<const Scalar>& q, const strided_kv<Scalar>& kv, const hip::selection_layer& layer,
                const heads_view<Out>& out) {
    using operands = hip::operand_rows<Scalar>;
    const bool     chunked = options_.keys == key_set::near || options_.keys == key_set::near_and_far;
    const bool     asked   = options_.queries == query_set::representatives;
    const double   scale   = options_.scale > 0 ? options_.scale : 1.0 / std::sqrt(static_cast<double>(q.dim));
    const operands tokens  = {kv.keys.data,           kv.values.data,           kv.keys.token_stride,
                              kv.keys.head_stride,    kv.values.token_stride,   kv.values.head_stride};
    const std::int64_t head  = std::int64_t{q.tokens} * Dim;
    const operands     means = {mean_keys_, mean_values_, Dim, head, Dim, head};

    hip::attend<Scalar, Out, Dim> kernel = {
        .queries = {q, out, asked ? layer.indices : nullptr, nullptr, layer.count, layer.count, kv.kv_heads(),
                    chunked ? options_.chunk : q.tokens},
        .far     = {},
        .near    = {tokens, options_.window, !chunked, options_.causal, options_.keys != key_set::representatives},
        .scale   = static_cast<float>(scale * std::numbers::log2e)};
    if (summarises())
      kernel.far = {means, clusters_.far_rows, clusters_.far_count, clusters_.offsets,
                    options_.keys == key_set::near_and_far ? q.tokens : 0, false};
    else if (selects())
      kernel.far = {tokens, layer.indices, layer.count, nullptr, 0, options_.causal};
    if (means_ask()) {
      kernel.queries.q       = {mean_queries_, q.tokens, q.heads, Dim, Dim, head};
      kernel.queries.list    = clusters_.far_rows;
      kernel.queries.answers = layer.indices;
    }
    return where_.launch(kernel);
  }

  attention_options     options_;
  B                     where_;
  hip::device_memory<B> memory_;
  hip::cluster_memory   clusters_     = {};
  Scalar*               mean_keys_    = nullptr;
  Scalar*               mean_values_  = nullptr;
  Scalar*               mean_queries_ = nullptr;
};

}  // namespace cascada
