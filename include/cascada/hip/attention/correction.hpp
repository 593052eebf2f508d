#pragma once
// What the logits of leaves need besides mean keys and sizes, on the matrix units; whoever adds it limits it:
//
//   C^T [keys, queries] = variances [keys, groups] (scale |q_g|^2 / 2) [groups, queries]
//
// in the units of the logits, which are over their scale. Each number has two parts of bfloat16: first and second ones
// of the variances are k = 0..3 and 4..7 of an instruction, of the queries' operand those of two instructions.

#include <cstdint>

#include "cascada/hip/attention/block_rows.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/operands.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <matrix_scalar Scalar, index_t Dim>
struct leaf_correction {
  /// A query's operand, of all groups.
  struct alignas(16) operand {
    fragment part[2];

    CASCADA_DEVICE CASCADA_INLINE void set(index_t group, float value) {
      part[0][group] = bfloat16_part(value, 0);
      part[1][group] = bfloat16_part(value, 1);
    }
  };

  struct shared {
    operand queries[threads_of_block];  // of each thread, kept here for want of registers
    alignas(16) std::uint16_t variances[keys_of_tile * variance_parts];
  };

  const leaf_variances& of;

  /// Squares are added up by eights, those by a product with rows that take the groups in turn: either half of the wave
  /// gets all.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE operand measure(Gpu& gpu, const vector8 (&query)[Dim / 16]) const {
    const auto one     = from_float<bfloat16>(1.0f).bits;
    sums_16    squares = {};
#pragma GCC unroll 4
    for (index_t j = 0; j < Dim / 64; ++j) {
      operand  sums;
      fragment inside;
#pragma GCC unroll 4
      for (index_t i = 0; i < 4; ++i) {
        const index_t eight = 2 * (4 * j + i) + gpu.lane() / 32;
        sums.set(i, __builtin_fminf(sum_of_squares(query[4 * j + i]), largest_operand));
        inside[i] = eight * of.groups / (Dim / 8) == gpu.lane() % most_groups ? one : std::uint16_t{0};
      }
      squares = gpu.template mfma_32x32x8<bfloat16>(inside, sums.part[0], squares);
      squares = gpu.template mfma_32x32x8<bfloat16>(inside, sums.part[1], squares);
    }
    operand result;
#pragma GCC unroll 4
    for (index_t i = 0; i < 4; ++i) result.set(i, __builtin_fminf(squares[i] * of.half_scale, largest_operand));
    return result;
  }

  /// `logs`, with the corrections of the 32 leaves whose variances are staged, for the query of this lane. Not limited.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 add_to(Gpu& gpu, sums_16 logs, const shared& lds, index_t thread) const {
    const index_t  lane      = thread % gfx942::wave;
    const fragment variances = load_4(lds.variances + lane % 32 * variance_parts + lane / 32 * most_groups);
    const operand  query     = lds.queries[thread];
    logs                     = gpu.template mfma_32x32x8<bfloat16>(variances, query.part[0], logs);
    return gpu.template mfma_32x32x8<bfloat16>(variances, query.part[1], logs);
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE static float sum_of_squares(vector8 elements) {
    float sum = 0;
#pragma GCC unroll 8
    for (index_t e = 0; e < 8; ++e) {
      const float x = to_float(Scalar{elements[e]});
      sum           = __builtin_fmaf(x, x, sum);
    }
    return sum;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
