#pragma once
// What stands for a leaf: mean key, mean value, and how much the keys vary.
//
// Each token is summed once, in token order: sums do not depend on the chunks, or on the number of waves.

#include <bit>
#include <cstdint>

#include "cascada/hip/attention/leaves.hpp"
#include "cascada/hip/attention/token_rows.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

inline constexpr index_t most_groups     = 4;                // of key dimensions
inline constexpr index_t variance_parts  = 2 * most_groups;  // of a leaf: the groups' first parts, then the second ones
inline constexpr float   largest_operand = 0x1.fep+127f;     // of bfloat16

/// One of two bfloat16, 0 or 1, whose sum is x to 16 bits.
CASCADA_DEVICE CASCADA_INLINE std::uint16_t bfloat16_part(float x, index_t part) noexcept {
  const std::uint32_t all = std::bit_cast<std::uint32_t>(x), top = all & 0xffff0000u;
  const auto          rest = std::bit_cast<std::uint32_t>(x - std::bit_cast<float>(top));
  return static_cast<std::uint16_t>((part == 0 ? top : rest) >> 16);
}

/// Sums over eight elements of the rows so far. Squares are of the distances to the first row: near to it, unlike
/// squares of the elements, they lose no digits.
template <matrix_scalar Scalar>
struct member_sums {
  float first[8] = {}, sum[8] = {}, squares[8] = {};

  CASCADA_DEVICE CASCADA_INLINE void add(vector8 row, bool is_first) {
#pragma GCC unroll 8
    for (index_t e = 0; e < 8; ++e) {
      const float x        = to_float(Scalar{row[e]});
      first[e]             = is_first ? x : first[e];
      const float distance = x - first[e];
      sum[e] += x;
      squares[e] = __builtin_fmaf(distance, distance, squares[e]);
    }
  }
  CASCADA_DEVICE CASCADA_INLINE vector8 mean(float size) const {
    vector8 all = {};
#pragma GCC unroll 8
    for (index_t e = 0; e < 8; ++e) all[e] = from_float<Scalar>(sum[e] / size).bits;
    return all;
  }
  /// Size times the variances of all elements, added up.
  CASCADA_DEVICE CASCADA_INLINE float spread(float size) const {
    float total = 0;
#pragma GCC unroll 8
    for (index_t e = 0; e < 8; ++e) {
      const float shift = sum[e] / size - first[e];
      total += __builtin_fmaf(-(size * shift), shift, squares[e]);  // kernels shall not differ in it
    }
    return total;
  }
};

/// Where rows of sums go: means, and variances, if they are wanted. Eight elements to a lane.
template <matrix_scalar Scalar>
struct leaf_table {
  Scalar*        means;      // [rows, dim]
  std::uint16_t* variances;  // [rows, variance_parts]; null: not wanted
  index_t        moments;    // groups of dimensions, a power of two; the others are zero
  index_t        dim;

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t lanes_of_row() const { return dim / 8; }

  /// Of `size` rows, where there are `more`. All lanes of the wave take part.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void write(Gpu& gpu, const member_sums<Scalar>& all, float size, std::int64_t row,
                                           bool more) const {
    const index_t own = gpu.lane() % lanes_of_row();
    if (more) store_8(reinterpret_cast<std::uint16_t*>(means + row * dim + 8 * own), all.mean(size));
    if (!variances) return;
    const float variance = variance_of_group(gpu, all.spread(size), size, own % most_groups);
    if (more && own < variance_parts)
      variances[row * variance_parts + own] = bfloat16_part(variance, own / most_groups);
  }

 private:
  /// Of a group of the lane's row, the mean over its dimensions, as far as bfloat16 goes.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE float variance_of_group(Gpu& gpu, float spread, float size, index_t group) const {
    const index_t lanes = lanes_of_row() / moments;
    for (index_t step = 1; step < lanes; step *= 2) spread += gpu.shuffle(spread, gpu.lane() ^ step);
    const index_t row = gpu.lane() / lanes_of_row() * lanes_of_row();
    spread            = gpu.shuffle(spread, row + (group < moments ? group : 0) * lanes);
    const float mean  = spread / (size * static_cast<float>(8 * lanes));
    return group < moments && mean > 0 ? __builtin_fminf(mean, largest_operand) : 0.0f;  // NaN: the mean key has it
  }
};

/// What each leaf's members up to every place of it have as means of their rows [heads, T, dim], and as variances
/// [heads, T, variance_parts], if they are wanted. Eight elements to a lane.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct leaf_means {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  cluster_memory            clusters;
  leaf_memory               leaves;
  token_rows<Scalar, Place> rows;
  Scalar*                   means;
  std::uint16_t*            variances = nullptr;  // not wanted
  index_t                   moments   = 0;        // groups of dimensions, a power of two; the others are zero
  index_t                   sharing   = 1;        // heads of `rows` to a KV head

  index_t grid() const {  // each leaf might be of one token
    const std::int64_t lanes = std::int64_t{rows.tokens} * rows.heads * lanes_of_row();
    return static_cast<index_t>((lanes + threads - 1) / threads);
  }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t    place = gpu.block() * (threads / lanes_of_row()) + gpu.lane() / lanes_of_row();
    const index_t    leaf = place / rows.heads, head = place % rows.heads, own = gpu.lane() % lanes_of_row();
    const index_t    set   = leaves.set_of(head / sharing);
    const leaf_range range = leaf < leaves.count[set] ? leaves.ranges_of(set, rows.tokens)[leaf] : leaf_range{0, 0};
    const leaf_table<Scalar> table   = {means, variances, moments, rows.dim};
    const index_t* const     members = clusters.members_of_set(set, rows.tokens).members;
    member_sums<Scalar>      all;
    for (index_t m = range.begin; gpu.ballot(m < range.end) != 0; ++m) {
      const bool         more = m < range.end;
      const auto         size = static_cast<float>(m - range.begin + 1);
      const std::int64_t to   = std::int64_t{head} * rows.tokens + m;
      if (more) all.add(load_8(rows.row(members[m], head) + 8 * own), m == range.begin);
      table.write(gpu, all, size, to, more);
    }
  }

 private:
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t lanes_of_row() const { return rows.dim / 8; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
