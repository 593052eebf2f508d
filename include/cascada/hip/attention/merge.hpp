#pragma once
// merge on gfx942: the function of attention_merge.hpp for rows in device memory.

#include <bit>
#include <cstdint>
#include <numbers>
#include <type_traits>

#include "cascada/attention_merge.hpp"
#include "cascada/finite.hpp"
#include "cascada/hip/base/backend.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

namespace hip::attention {

/// Which of two rows saw anything, what they count in one, and its log-sum-exp.
struct merged_shares {
  bool  first_saw, second_saw;
  float first, second, log_sum_exp;

  /// Of their log-sum-exps. NaN stays.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE merged_shares(Gpu& gpu, float first_lse, float second_lse)
      : first_saw(!detail::is_minus_infinity(first_lse)), second_saw(!detail::is_minus_infinity(second_lse)) {
    constexpr float log2e = std::numbers::log2e_v<float>, ln2 = std::numbers::ln2_v<float>;
    const float     top  = first_lse > second_lse ? first_lse : second_lse;
    const float     mine = gpu.exp2((first_lse - top) * log2e), its = gpu.exp2((second_lse - top) * log2e);
    const float     sum = mine + its;
    first = mine / sum, second = its / sum;
    log_sum_exp = !second_saw ? first_lse : !first_saw ? second_lse : top + gpu.log2(sum) * ln2;
  }

  /// An element: where one row saw nothing, the other's as it is.
  CASCADA_DEVICE CASCADA_INLINE float operator()(float x, float y) const {
    return !second_saw ? x : !first_saw ? y : __builtin_fmaf(x, first, y * second);
  }
};

/// Rows for two sets of keys, as those for all of them. A wave has a (token, head), or, where these are many, every
/// `grid`-th.
template <row_scalar First, row_scalar Second, row_scalar Out>
struct merge_rows {
  using shared                            = no_shared;
  static constexpr index_t threads        = gfx942::wave;
  static constexpr index_t waves_per_simd = 8;
  static constexpr index_t most_blocks    = gfx942::compute_units * gfx942::simds * waves_per_simd;  // side by side

  heads_view<const First>  first;
  matrix_view<const float> first_lse;
  heads_view<const Second> second;
  matrix_view<const float> second_lse;
  heads_view<Out>          out;
  matrix_view<float>       log_sum_exp;  // its data null: not wanted

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t grid() const {
    const std::int64_t rows = std::int64_t{out.tokens} * out.heads;
    return rows < most_blocks ? static_cast<index_t>(rows) : most_blocks;
  }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t blocks = grid(), tokens = blocks / out.heads, heads = blocks % out.heads;
    index_t       token = gpu.block() / out.heads, head = gpu.block() % out.heads;
#pragma GCC unroll 1
    while (true) {
      merge(gpu, token, head);
      head += heads;
      const index_t carry = head < out.heads ? 0 : 1;
      if (out.tokens - token <= tokens + carry) return;
      token += tokens + carry, head -= carry * out.heads;
    }
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void merge(Gpu& gpu, index_t token, index_t head) const {
    // All lanes have read these before one of them writes what may lie there.
    const float         a = uniform(gpu, first_lse.row(token)[head]), b = uniform(gpu, second_lse.row(token)[head]);
    const merged_shares share(gpu, a, b);
    const First* const  one   = first.row(token, head);
    const Second* const other = second.row(token, head);
    Out* const          to    = out.row(token, head);
#pragma GCC unroll 1
    for (index_t c = gpu.lane(); c < out.dim; c += threads)
      to[c] = from_float<Out>(share(to_float(one[c]), to_float(other[c])));
    if (log_sum_exp.data && gpu.lane() == 0) log_sum_exp.row(token)[head] = share.log_sum_exp;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static float uniform(Gpu& gpu, float value) {
    return std::bit_cast<float>(gpu.uniform(std::bit_cast<index_t>(value)));
  }
};

}  // namespace hip::attention

/// As attention_merge.hpp says: one launch, no memory. Rows may be of any type, dim and strides.
template <gfx942_backend B, class First, class Second, row_scalar Out>
  requires row_scalar<std::remove_const_t<First>> && row_scalar<std::remove_const_t<Second>>
[[nodiscard]] status merge(heads_view<First> first, matrix_view<const float> first_lse, heads_view<Second> second,
                           matrix_view<const float> second_lse, heads_view<Out> out, matrix_view<float> log_sum_exp,
                           B where) noexcept {
  const status answer = detail::check_merge<B>(first, first_lse, second, second_lse, out, log_sum_exp);
  if (answer != status::ok || first.tokens == 0) return answer;
  using kernel = hip::attention::merge_rows<std::remove_const_t<First>, std::remove_const_t<Second>, Out>;
  return where.launch(kernel{.first       = first,
                             .first_lse   = first_lse,
                             .second      = second,
                             .second_lse  = second_lse,
                             .out         = out,
                             .log_sum_exp = log_sum_exp});
}

}  // namespace cascada::inline CASCADA_ABI
