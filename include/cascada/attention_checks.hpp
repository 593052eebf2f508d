#pragma once
// Whether the arguments of a call of attention fit each other.

#include <cstddef>
#include <cstdint>
#include <span>

#include "cascada/backend.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::detail {

/// Offsets that cut `tokens` tokens into sequences. O(sequences).
template <backend B>
[[nodiscard]] status check_offsets(std::span<const index_t> offsets, index_t tokens) noexcept {
  if (!offsets.data()) return {status::invalid_shape, "sequence_offsets is null"};
  if (offsets.front() != 0) return {status::invalid_shape, "sequence_offsets does not begin at 0"};
  if (offsets.back() != tokens) return {status::invalid_shape, "sequence_offsets does not end at q.tokens"};
  for (std::size_t s = 1; s < offsets.size(); ++s)
    if (offsets[s] < offsets[s - 1]) return {status::invalid_shape, "sequence_offsets descends"};
  return status::ok;
}

/// Shapes of q, kv and out that fit each other, and at least one offset that cuts them. No tokens are fine, whatever
/// their columns and data.
template <backend B, row_scalar Scalar, kv_view KV, row_scalar Out>
[[nodiscard]] status check_shapes(const heads_view<const Scalar>& q, const KV& kv, const heads_view<Out>& out,
                                  std::span<const index_t> offsets) noexcept {
  if (const status answer = check_heads(q, sentences_of_q()); answer != status::ok) return answer;
  if (const status answer = check_heads(out, sentences_of_out()); answer != status::ok) return answer;
  if (const status answer = kv.check(); answer != status::ok) return answer;
  if (kv.tokens() != q.tokens) return {status::invalid_shape, "kv.tokens() differs from q.tokens"};
  if (kv.kv_heads() < 1) return {status::invalid_shape, "kv.kv_heads() is less than 1"};
  if (q.heads % kv.kv_heads() != 0) return {status::invalid_shape, "q.heads is no multiple of kv.kv_heads()"};
  if (out.tokens != q.tokens) return {status::invalid_shape, "out.tokens differs from q.tokens"};
  if (out.heads != q.heads) return {status::invalid_shape, "out.heads differs from q.heads"};
  if (q.tokens > 0 && kv.key_dim() != q.dim) return {status::invalid_shape, "kv.key_dim() differs from q.dim"};
  if (q.tokens > 0 && out.dim != kv.value_dim()) return {status::invalid_shape, "out.dim differs from kv.value_dim()"};
  return check_offsets<B>(offsets, q.tokens);
}

/// One legal selection per sequence, or per (sequence, KV head).
template <backend B>
[[nodiscard]] status check_selections(std::span<const representatives> selections, std::span<const index_t> offsets,
                                      index_t kv_heads) noexcept {
  const std::size_t sequences = offsets.size() - 1, count = selections.size();
  if (count != sequences && count != sequences * static_cast<std::size_t>(kv_heads))
    return illegal("selections has neither one for each sequence nor one for each of its KV heads");
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t s      = i / (count / sequences);
    const index_t     tokens = offsets[s + 1] - offsets[s];
    if (selections[i].rep.size() != static_cast<std::size_t>(tokens))
      return illegal("selections has one that is not as long as its sequence");
    if (const status answer = check(selections[i], tokens); answer != status::ok) return answer;
  }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::detail
