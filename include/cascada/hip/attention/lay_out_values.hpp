#pragma once
// Transposed values, laid out in rows: all other kernels read those.

#include <cstdint>

#include "cascada/hip/base/device.hpp"
#include "cascada/hip/base/growth.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Values [heads, dim, T]: element (t, h, c) lies at data + h head_stride + c dim_stride + t.
template <class Scalar>
struct transposed_values {
  const Scalar* data        = nullptr;  // null: values lie in rows
  std::int64_t  head_stride = 0, dim_stride = 0;
};

/// One block for 64 tokens, 64 elements of them and a head. Either side is read, or written, along its lines. Nothing
/// is read of tokens that are not there.
template <class Scalar>
struct lay_out_values {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 2;
  static constexpr index_t side           = 64;

  struct shared {
    std::uint16_t element[side][side + 2];  // [dim, token]
  };

  transposed_values<Scalar> from;
  heads_view<Scalar>        to;  // of as many tokens as there is room for
  tokens_there              there = {};

  index_t grid() const { return ((to.tokens - 1) / side + 1) * (to.dim / side) * to.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         tile = gpu.template shared<shared>();
    const index_t head = gpu.block() % to.heads, part = gpu.block() / to.heads % (to.dim / side);
    const index_t first = gpu.block() / to.heads / (to.dim / side) * side, column = gpu.thread() % side;
    const index_t tokens = there.of(gpu, to.tokens);
    if (first >= tokens) return;
    const Scalar* const values = from.data + head * from.head_stride + part * side * from.dim_stride + first;
#pragma GCC unroll 16
    for (index_t row = gpu.thread() / side; row < side; row += threads / side)
      tile.element[row][column] = first + column < tokens ? values[row * from.dim_stride + column].bits : 0;
    gpu.barrier();
#pragma GCC unroll 16
    for (index_t row = gpu.thread() / side; row < side; row += threads / side)
      if (first + row < tokens) to.row(first + row, head)[part * side + column] = Scalar{tile.element[column][row]};
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
