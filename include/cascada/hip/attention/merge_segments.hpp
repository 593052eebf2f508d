#pragma once
// Rows from the softmaxes of their segments.

#include <cstdint>

#include "cascada/hip/attention/head_terms.hpp"
#include "cascada/hip/attention/result_rows.hpp"
#include "cascada/hip/attention/row_sums.hpp"
#include "cascada/hip/attention/segments.hpp"
#include "cascada/hip/attention/softmax.hpp"
#include "cascada/hip/base/selection_layer.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Joins the segments of each (token, head), in their order: four elements to a thread.
template <matrix_scalar Scalar, index_t Dim>
struct merge_segments {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;
  static constexpr index_t fours          = Dim / 4;

  key_segments        segments;
  result_rows<Scalar> out;
  const index_t*      valid;  // as in query_tokens
  float               scale;  // times log2(e)
  head_logits         sink_logits = {};
  index_t             sets        = 1;  // as in query_tokens
  row_sums            log_sums    = {};

  index_t grid() const { return (rows() * fours + threads - 1) / threads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t item = gpu.block() * threads + gpu.thread();
    if (item >= rows() * fours) return;
    const index_t row = item / fours, four = item % fours, head = row % out.heads;
    if (valid && has_failed(valid + (sets > 1 ? head * sets / out.heads : 0))) return;
    const index_t count = segments.counts[row];
    if (count == 1) return;  // written
    row_part all = read(0, row, four);
    join_segments(
        1, count, [&](index_t segment) { return read(segment, row, four); },
        [&](const row_part& later) { all.join(gpu, later, scale); });
    const softmax_shares share(gpu, top_logit_of(all.sums[0], scale), all.sums[1] + all.sums[3], sink_logits.of(head));
    if (four == 0) log_sums.put(row / out.heads, head, share.log_sum);
    out.as_stored([&]<class Out>(const heads_view<Out>& rows) {
      Out* const to = rows.row(row / out.heads, head) + 4 * four;
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) to[e] = from_float<Out>(all.out[e] * share.own);
    });
  }

 private:
  /// Four sums of weighted values, and {top, sum} of both halves of a wave, whose tops are alike.
  struct row_part {
    sums_4 out, sums;

    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE void join(Gpu& gpu, const row_part& later, float of_logits) {
      const joint_softmax joint(gpu, sums[0], later.sums[0], of_logits);
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) out[e] = joint(out[e], later.out[e]);
      sums = sums_4{joint.top, joint(sums[1], later.sums[1]), joint.top, joint(sums[3], later.sums[3])};
    }
  };

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t rows() const { return out.tokens * out.heads; }

  CASCADA_DEVICE CASCADA_INLINE row_part read(index_t segment, index_t row, index_t four) const {
    const kept_row<Dim> from(segment * rows() + row);
    return {load_sums(segments.kept + from.values(four)), load_sums(segments.kept + from.sums(0))};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
