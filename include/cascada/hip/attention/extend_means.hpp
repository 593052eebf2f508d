#pragma once
// Means and variances of a growing sequence's leaves that get members (extend_leaves.hpp).

#include <cstdint>

#include "cascada/hip/attention/grown_leaves.hpp"
#include "cascada/hip/attention/grown_state.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/token_rows.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Rows of the tables. As in leaf_means, eight elements to a lane; keys have one half of the blocks, values the other.
template <matrix_scalar Scalar, class Place = rows_in_order>
struct extend_means {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  grown_tokens              of;
  grown_leaves              leaves;
  token_rows<Scalar, Place> keys, values;  // of as many tokens as there is room for
  leaf_table<Scalar>        mean_keys, mean_values;
  index_t                   most;  // tokens that may join

  index_t grid() const { return 2 * half(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (of.state->valid < 0) return;
    if (gpu.block() < half())
      extend(gpu, gpu.block(), keys, mean_keys);
    else
      extend(gpu, gpu.block() - half(), values, mean_values);
  }

 private:
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t half() const {
    const std::int64_t lanes = std::int64_t{most} * keys.heads * (keys.dim / 8);
    return static_cast<index_t>((lanes + threads - 1) / threads);
  }

  /// The first of a leaf's new tokens walks over all of its members.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void extend(Gpu& gpu, index_t block, const token_rows<Scalar, Place>& rows,
                                            const leaf_table<Scalar>& table) const {
    const index_t       from = gpu.uniform(of.state->from), to = gpu.uniform(of.state->to);
    const index_t       lanes = rows.dim / 8, item = block * (threads / lanes) + gpu.lane() / lanes;
    const index_t       head = item % rows.heads, token = from + item / rows.heads;
    const grown_leaves  own = leaves.of(leaves.set_of(head), rows.tokens);
    member_sums<Scalar> all;
    index_t             member = -1, count = 0;
    if (token < to && (own.size[token] == 1 || own.before[token] < from)) {
      member = token;
      for (index_t left = own.size[token]; left > 1; --left) member = own.before[member];
    }
    while (gpu.ballot(member >= 0) != 0) {
      const bool         exists = member >= 0;
      const std::int64_t row    = std::int64_t{head} * rows.tokens + (exists ? member : 0);
      ++count;
      if (exists) all.add(load_8(rows.row(member, head) + 8 * (gpu.lane() % lanes)), count == 1);
      table.write(gpu, all, static_cast<float>(count), row, exists && member >= from);
      if (exists) member = own.follower(member, to);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
