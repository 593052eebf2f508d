#pragma once
// merge on the CPU: the function of attention_merge.hpp.

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cascada/attention_merge.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/base/float_environment.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"
#include "cascada/row_checks.hpp"
#include "cascada/scalar.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

namespace kernel::attention {

/// Which of two rows saw anything, what they count in one, and its log-sum-exp.
struct merged_shares {
  bool  first_saw, second_saw;
  float first, second, log_sum_exp;
};

/// Of their log-sum-exps. NaN stays.
template <cpu_backend B>
CASCADA_INLINE merged_shares shares_of(float first, float second) noexcept {
  if (detail::is_minus_infinity(second)) return {true, false, 1, 0, first};
  if (detail::is_minus_infinity(first)) return {false, true, 0, 1, second};
  const double a = static_cast<double>(first), b = static_cast<double>(second), top = a > b ? a : b;
  const double mine = std::exp(a - top), its = std::exp(b - top), sum = mine + its;
  return {true, true, static_cast<float>(mine / sum), static_cast<float>(its / sum),
          static_cast<float>(top + std::log(sum))};
}

/// out [dim] = first x share + second x share, or the one that saw anything as it is.
template <cpu_backend B, row_scalar First, row_scalar Second, row_scalar Out>
void merge_rows(const First* first, const Second* second, const merged_shares& share, index_t dim, Out* out) noexcept {
  index_t c = 0;
  if (!share.second_saw)
    for (; c < dim; ++c) out[c] = from_float<Out>(to_float(first[c]));
  if (!share.first_saw)
    for (; c < dim; ++c) out[c] = from_float<Out>(to_float(second[c]));
  for (; c + vec<B>::width <= dim; c += vec<B>::width) {
    const auto its = load_floats<B>(second + c) * vec<B>::broadcast(share.second);
    store_elements(multiply_add(load_floats<B>(first + c), vec<B>::broadcast(share.first), its), out + c);
  }
  for (; c < dim; ++c) out[c] = from_float<Out>(to_float(first[c]) * share.first + to_float(second[c]) * share.second);
}

}  // namespace kernel::attention

/// As attention_merge.hpp says.
template <cpu_backend B, class First, class Second, row_scalar Out>
  requires row_scalar<std::remove_const_t<First>> && row_scalar<std::remove_const_t<Second>>
[[nodiscard]] status merge(heads_view<First> first, matrix_view<const float> first_lse, heads_view<Second> second,
                           matrix_view<const float> second_lse, heads_view<Out> out,
                           matrix_view<float> log_sum_exp) noexcept {
  const status answer = detail::check_merge<B>(first, first_lse, second, second_lse, out, log_sum_exp);
  if (answer != status::ok) return answer;
  const bool                         wanted = !detail::is_nothing(log_sum_exp);
  const kernel::float_environment<B> usual;
  for (index_t t = 0; t < first.tokens; ++t)
    for (index_t h = 0; h < first.heads; ++h) {
      const auto share = kernel::attention::shares_of<B>(first_lse.row(t)[h], second_lse.row(t)[h]);
      kernel::attention::merge_rows<B>(first.row(t, h), second.row(t, h), share, first.dim, out.row(t, h));
      if (wanted) log_sum_exp.row(t)[h] = share.log_sum_exp;
    }
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI
