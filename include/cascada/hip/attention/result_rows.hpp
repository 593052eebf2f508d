#pragma once
// Where answers go: rows of the queries' type, or of floats.

#include <concepts>
#include <cstdint>

#include "cascada/hip/base/device.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Rows [tokens, heads, dim] of one of two types, which kernels are told as they run: it matters only where a row is
/// written, and each type would else have kernels of its own.
template <class Scalar>
struct result_rows {
  void*        data         = nullptr;
  index_t      tokens       = 0;
  index_t      heads        = 0;
  index_t      dim          = 0;
  std::int64_t token_stride = 0;  // elements, as head_stride
  std::int64_t head_stride  = 0;
  bool         in_floats    = false;

  template <class Out>
  static result_rows of(const heads_view<Out>& rows) {
    return {
        rows.data, rows.tokens, rows.heads, rows.dim, rows.token_stride, rows.head_stride, std::same_as<Out, float>};
  }

  /// Tokens [begin, begin + count).
  result_rows part(index_t begin, index_t count) const {
    const std::int64_t bytes = in_floats ? sizeof(float) : sizeof(Scalar);
    result_rows        own   = *this;
    own.data                 = static_cast<char*>(data) + begin * token_stride * bytes;
    own.tokens               = count;
    return own;
  }

  /// use(rows), a heads_view of the type that they have.
  template <class Use>
  CASCADA_DEVICE CASCADA_INLINE void as_stored(const Use& use) const {
    if (in_floats)
      use(heads_view<float>{static_cast<float*>(data), tokens, heads, dim, token_stride, head_stride});
    else
      use(heads_view<Scalar>{static_cast<Scalar*>(data), tokens, heads, dim, token_stride, head_stride});
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
