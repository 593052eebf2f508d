#pragma once
// What all classes of selection ask of their arguments.

#include "cascada/hip/base/aligned_rows.hpp"
#include "cascada/hip/base/margin.hpp"
#include "cascada/selection_options.hpp"
#include "cascada/status.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::select {

/// What the arguments of a call alone tell.
template <matrix_scalar Scalar>
[[nodiscard]] status check(const matrix_view<const Scalar>& x, const selection_options& options) noexcept {
  if (const status answer = detail::check(x, options); answer != status::ok) return answer;
  if (x.rows == 0) return status::ok;
  if (x.cols % 8 != 0) return {status::unsupported_by_device, "x.cols is no multiple of 8, as gfx942 needs it"};
  if (x.cols > max_columns) return {status::unsupported_by_device, "x.cols is more than 2^18, too much for gfx942"};
  if (!rows_are_aligned(x.data, {x.stride}))
    return {status::unsupported_by_device, "x is not on 16-byte boundaries, row by row, as gfx942 needs it"};
  return status::ok;
}

}  // namespace cascada::inline CASCADA_ABI::hip::select
