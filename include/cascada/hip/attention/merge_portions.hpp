#pragma once
// Rows from the softmaxes of their portions.

#include <cstdint>

#include "cascada/hip/attention/portions.hpp"
#include "cascada/hip/attention/softmax.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Joins the portions of each (token, head), in their order: four elements to a thread.
template <row_scalar Out, index_t Dim>
struct merge_portions {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 1;
  static constexpr index_t fours   = Dim / 4;
  static constexpr index_t ahead   = 8;  // portions that are read before they are joined

  key_portions    portions;
  heads_view<Out> out;
  const index_t*  valid;
  index_t         first, last;  // tokens of `out`
  float           scale;        // times log2(e)

  index_t grid() const { return (rows() * fours + threads - 1) / threads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (valid && *valid < 0) return;
    const index_t item = gpu.block() * threads + gpu.thread();
    if (item >= rows() * fours) return;
    const index_t row = first * out.heads + item / fours, four = item % fours;
    const index_t count = portions.counts[row];
    if (count == 1) return;  // written
    half_sums all = read(0, row, four);
#pragma GCC unroll 1
    for (index_t portion = 1; portion < count; portion += ahead) {
      half_sums next[ahead];
#pragma GCC unroll 8
      for (index_t i = 0; i < ahead; ++i) next[i] = read(portion + i < count ? portion + i : portion, row, four);
#pragma GCC unroll 8
      for (index_t i = 0; i < ahead; ++i)
        if (portion + i < count) all.join(gpu, next[i], scale);
    }
    const softmax_shares share(gpu, top_logit_of(all.sums[0], scale), all.sums[1] + all.sums[3]);
    Out* const           to = out.row(row / out.heads, row % out.heads) + 4 * four;
#pragma GCC unroll 4
    for (index_t e = 0; e < 4; ++e) to[e] = from_float<Out>(all.out[e] * share.own);
  }

 private:
  /// As portions.hpp says: four sums of weighted values, and the last four.
  struct half_sums {
    sums_4 out, sums;

    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE void join(Gpu& gpu, const half_sums& later, float scale) {
      const joint_softmax joint(gpu, sums[0], later.sums[0], scale);
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) out[e] = joint(out[e], later.out[e]);
      sums = sums_4{joint.top, joint(sums[1], later.sums[1]), joint.top, joint(sums[3], later.sums[3])};
    }
  };

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t rows() const { return (last - first) * out.heads; }

  CASCADA_DEVICE CASCADA_INLINE half_sums read(index_t portion, index_t row, index_t four) const {
    const std::int64_t place = std::int64_t{portion} * (out.tokens * out.heads) + row;
    const float* const from  = portions.kept + place * (Dim + 4);
    return {load_sums(from + 4 * four), load_sums(from + Dim)};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
