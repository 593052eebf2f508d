#pragma once
// One sequence of a call, as every mode reads it.

#include "cascada/cpu/attention/score_terms.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// One sequence of a call: its tokens' keys and values, and queries of the last ones. Positions count from its first
/// token.
template <row_scalar Scalar, kv_view KV, row_scalar Out>
struct attention_sequence {
  heads_view<const Scalar> q;
  const KV&                kv;
  heads_view<Out>          out;
  matrix_view<float>       log_sum_exp = {};
  const float*             sink_logits = nullptr;  // [heads], or null
  score_terms              terms       = {};
  index_t                  base        = 0;  // of the keys: where the sequence begins in kv
  index_t                  query_base  = 0;  // where position 0 would lie in q and out
  index_t                  first       = 0;  // position of the first query; below 0 where queries outnumber keys
  index_t                  tokens      = 0;  // T
  index_t                  group       = 1;  // query heads per KV head
  float                    scale       = 0;  // of the logits, times log2 e

  CASCADA_INLINE index_t       queries() const noexcept { return tokens - first; }
  CASCADA_INLINE const Scalar* query(index_t token, index_t kv_head, index_t head_of_group) const noexcept {
    return q.row(query_base + token, kv_head * group + head_of_group);
  }
  CASCADA_INLINE auto key(index_t token, index_t kv_head) const noexcept { return kv.key(base + token, kv_head); }
  CASCADA_INLINE auto value(index_t token, index_t kv_head) const noexcept { return kv.value(base + token, kv_head); }
  CASCADA_INLINE Out* result(index_t token, index_t kv_head, index_t head_of_group) const noexcept {
    return out.row(query_base + token, kv_head * group + head_of_group);
  }
  /// Null if nobody asks.
  CASCADA_INLINE float* log_sum_exp_of(index_t token, index_t kv_head, index_t head_of_group) const noexcept {
    return log_sum_exp.data ? log_sum_exp.row(query_base + token) + kv_head * group + head_of_group : nullptr;
  }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
