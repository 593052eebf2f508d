#pragma once
// attention on gfx942: the class of attention.hpp for rows in device memory.

#include <algorithm>
#include <span>

#include "cascada/attention.hpp"
#include "cascada/hip/attention_sequence.hpp"
#include "cascada/hip/memory.hpp"

namespace cascada::inline CASCADA_ABI {

/// Softmax attention on gfx942, as attention.hpp says, on the caller's stream, with these limits (else `unsupported`):
/// key_dim = value_dim = 64, 128 or 256; keys and values strided; rows 16-byte aligned, strides multiples of 8 and
/// between tokens less than 2^26. Means of clusters and of groups' queries are rounded to Scalar, and so are the
/// softmax's weights before they meet the values. A NaN in v can reach rows up to 31 tokens before it.
///
/// selections   one per sequence, or one per (sequence, KV head), as selector and cascade keep them on the device. Where
///              one has failed nothing is written. KV heads with selections of their own run one after the other
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
    const std::size_t sequences = offsets.size() - 1, all = sequences * static_cast<std::size_t>(kv.kv_heads());
    if (!selects()) selections = {};
    if (selects() && selections.size() != sequences && selections.size() != all) return status::invalid_representatives;

    const index_t parts   = selects() && selections.size() > sequences ? kv.kv_heads() : 1;  // that run on their own
    index_t       longest = 0;
    for (std::size_t s = 1; s < offsets.size(); ++s) longest = std::max(longest, offsets[s] - offsets[s - 1]);
    if (const status answer = reserve({longest, q.heads / parts, kv.kv_heads() / parts, q.dim}); answer != status::ok)
      return answer;
    for (std::size_t s = 0; s < sequences; ++s) {
      const index_t begin = offsets[s], tokens = offsets[s + 1] - begin;
      for (index_t p = 0; p < parts && tokens > 0; ++p) {
        const auto own   = [&](const auto& heads) { return part(heads, begin, tokens, p, heads.heads / parts); };
        const auto layer = selects() ? selections[s * static_cast<std::size_t>(parts) + static_cast<std::size_t>(p)]
                                     : hip::selection_layer{};
        const status answer = run(own(q), {own(kv.keys), own(kv.values)}, layer, own(out));
        if (answer != status::ok) return answer;
      }
    }
    return status::ok;
  }

 private:
  /// Tokens [begin, begin + tokens), heads [p heads, (p + 1) heads).
  template <class Row>
  static heads_view<Row> part(heads_view<Row> all, index_t begin, index_t tokens, index_t p, index_t heads) noexcept {
    all.data += begin * all.token_stride + p * heads * all.head_stride;
    all.tokens = tokens, all.heads = heads;
    return all;
  }

  bool selects() const noexcept {
    return options_.keys == key_set::representatives || options_.keys == key_set::near_and_far;
  }

  template <class Out>
  static status check_device(const heads_view<const Scalar>& q, const strided_kv<Scalar>& kv,
                             const heads_view<Out>& out) noexcept {
    const auto aligned = [](const auto& rows) {
      const auto address = reinterpret_cast<std::uintptr_t>(rows.data);
      const bool near    = rows.token_stride < std::int64_t{1} << 26;  // 32 rows are within reach of 32 bits
      return address % 16 == 0 && rows.token_stride % 8 == 0 && rows.head_stride % 8 == 0 && near;
    };
    const bool dims = q.dim == out.dim && (q.dim == 64 || q.dim == 128 || q.dim == 256);
    return dims && aligned(q) && aligned(kv.keys) && aligned(kv.values) ? status::ok : status::unsupported;
  }

  status reserve(const hip::attention_shape& shape) {
    hip::carver size;
    arrays_ = {};
    arrays_.cut(size, options_, shape);
    if (const status answer = memory_.reserve(size.bytes()); answer != status::ok) return answer;
    hip::carver arrays(memory_.data());
    arrays_.cut(arrays, options_, shape);
    return status::ok;
  }

  template <class Out>
  status run(const heads_view<const Scalar>& q, const strided_kv<Scalar>& kv, const hip::selection_layer& layer,
             const heads_view<Out>& out) {
    const auto attend = [&]<index_t Dim>(std::integral_constant<index_t, Dim>) {
      return hip::attention_sequence<Scalar, Out, Dim, B>(options_, q, kv, layer, out, arrays_, where_).run();
    };
    return q.dim == 64    ? attend(std::integral_constant<index_t, 64>{})
           : q.dim == 128 ? attend(std::integral_constant<index_t, 128>{})
                          : attend(std::integral_constant<index_t, 256>{});
  }

  attention_options                options_;
  B                                where_;
  hip::device_memory<B>            memory_;
  hip::attention_memory<Scalar, B> arrays_;
};

}  // namespace cascada::inline CASCADA_ABI
