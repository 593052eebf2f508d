#pragma once
// Log-sum-exps of rows, written beside their answers.

#include <cstdint>
#include <numbers>

#include "cascada/hip/base/device.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Of token t and head h at data + t stride + h.
struct row_sums {
  float*       data   = nullptr;  // null: not wanted
  std::int64_t stride = 0;
  float        unit   = 1;  // of base 2

  /// What a call wants, which is natural logarithms; of a sequence whose rows begin at `row`.
  static row_sums natural(const matrix_view<float>& rows, index_t row) {
    if (!rows.data) return {};
    return {rows.data + row * rows.stride, rows.stride, std::numbers::ln2_v<float>};
  }

  CASCADA_DEVICE CASCADA_INLINE float& at(index_t token, index_t head) const { return data[token * stride + head]; }
  CASCADA_DEVICE CASCADA_INLINE void   put(index_t token, index_t head, float log_sum) const {
    if (data) at(token, head) = log_sum * unit;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
