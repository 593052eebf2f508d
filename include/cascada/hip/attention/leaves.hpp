#pragma once
// Leaves on the device: a few members of a cluster, with what stands for them: count, mean key, mean value, and how
// much the keys vary.
//
// A far field is made of the older part of each leaf. Row m of the tables is of a leaf's members up to the one at place
// m of the clusters' `members`, so every far field of the sequence is a choice of rows, and each token is summed once,
// in token order: the sums do not depend on the chunks, or on the number of waves.

#include <bit>
#include <cstdint>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/clusters.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

inline constexpr index_t most_groups     = 4;                // of key dimensions
inline constexpr index_t variance_parts  = 2 * most_groups;  // of a leaf: the groups' first parts, then the second ones
inline constexpr float   largest_operand = 0x1.fep+127f;     // of bfloat16

/// One of two bfloat16, 0 or 1, whose sum is x to 16 bits.
CASCADA_DEVICE CASCADA_INLINE std::uint16_t part_of(float x, index_t part) noexcept {
  const std::uint32_t all = std::bit_cast<std::uint32_t>(x), top = all & 0xffff0000u;
  const auto          rest = std::bit_cast<std::uint32_t>(x - std::bit_cast<float>(top));
  return static_cast<std::uint16_t>((part == 0 ? top : rest) >> 16);
}

/// Places of members, [begin, end).
struct leaf_range {
  index_t begin, end;
};

/// The leaves of T tokens, by ascending first token, and the far fields of the chunks: those of all KV heads, or each
/// KV head's own.
struct leaf_memory {
  leaf_range* formed;     // [sets, T]: the leaf that a token is the first of; empty where it is none's
  leaf_range* ranges;     // [sets, T], `count` in use
  index_t*    count;      // [sets]: leaves
  index_t*    far_rows;   // [fields, T]: rows of the tables, one for each leaf older than the chunk's near field
  index_t*    far_count;  // [fields]: of some chunks, and of their sets

  index_t sets = 1, first = 0;  // the first of those chunks

  /// The far field of a chunk and a set of leaves.
  CASCADA_DEVICE CASCADA_INLINE index_t field_of(index_t chunk, index_t set) const {
    return (chunk - first) * sets + set;
  }

  /// The set of a KV head, and a set's leaves.
  CASCADA_DEVICE CASCADA_INLINE index_t           set_of(index_t kv_head) const { return sets > 1 ? kv_head : 0; }
  CASCADA_DEVICE CASCADA_INLINE const leaf_range* ranges_of(index_t set, index_t tokens) const {
    return ranges + std::int64_t{set} * tokens;
  }
};

/// Which tokens of a cluster begin leaves: every `size`-th, from the first that is no sink on. One wave.
struct form_leaves {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  selection_layer layer;
  cluster_memory  clusters;
  leaf_memory     leaves;
  index_t         tokens, sinks, size;  // of a leaf: tokens at most

  index_t grid() const { return tokens; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.block() >= *layer.count) return;
    const index_t first = clusters.offsets[gpu.block()], end = clusters.offsets[gpu.block() + 1];
    const index_t begin = clusters.place_from(first, end, sinks);
    for (index_t place = first + gpu.lane(); place < end; place += threads) {
      const bool begins                      = place >= begin && (place - begin) % size == 0;
      leaves.formed[clusters.members[place]] = {place, !begins ? place : end - place < size ? end : place + size};
    }
  }
};

/// The leaves in the order of their first tokens. Each block counts those of all tokens before its own.
struct list_leaves {
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  struct shared {
    std::uint32_t before[threads / gfx942::wave], own[threads / gfx942::wave];
  };

  selection_layer layer;
  leaf_memory     leaves;
  index_t         tokens;

  index_t grid() const { return (tokens + threads - 1) / threads * leaves.sets; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&                   memory = gpu.template shared<shared>();
    const index_t           set    = gpu.block() % leaves.sets;
    const index_t           begin = gpu.block() / leaves.sets * threads, token = begin + gpu.thread();
    const leaf_range* const formed = leaves.formed + std::int64_t{set} * tokens;
    const bool              exist  = *layer.count >= 0;
    std::uint32_t           before = 0;
#pragma GCC unroll 8
    for (index_t t = gpu.thread(); t < begin; t += threads) before += exist && begins(formed[t]);
    before                    = sum_of_wave(gpu, before);
    const leaf_range    range = exist && token < tokens ? formed[token] : leaf_range{0, 0};
    const std::uint64_t mask  = gpu.ballot(begins(range));
    if (gpu.lane() == 0) {
      memory.before[gpu.wave()] = before;
      memory.own[gpu.wave()]    = static_cast<std::uint32_t>(__builtin_popcountll(mask));
    }
    gpu.barrier();
    auto          place = static_cast<std::uint32_t>(voters_below(gpu, mask));
    std::uint32_t count = 0;
    for (index_t w = 0; w < threads / gfx942::wave; ++w) {
      place += memory.before[w] + (w < gpu.wave() ? memory.own[w] : 0);
      count += memory.before[w] + memory.own[w];
    }
    if (begins(range)) leaves.ranges[std::int64_t{set} * tokens + place] = range;
    if (begin + threads >= tokens && gpu.thread() == 0) leaves.count[set] = static_cast<index_t>(count);
  }

 private:
  CASCADA_DEVICE CASCADA_INLINE static bool begins(const leaf_range& range) { return range.begin < range.end; }
};

/// What each leaf's members up to every place of it have as means of their rows [heads, T, dim], and as variances
/// [heads, T, variance_parts], if they are wanted. Eight elements to a lane.
template <matrix_scalar Scalar>
struct leaf_means {
  using shared                            = no_shared;
  static constexpr index_t threads        = 64;
  static constexpr index_t waves_per_simd = 1;

  cluster_memory           clusters;
  leaf_memory              leaves;
  heads_view<const Scalar> rows;
  Scalar*                  means;
  std::uint16_t*           variances = nullptr;  // not wanted
  index_t                  moments   = 0;        // groups of dimensions, a power of two; the others are zero

  index_t grid() const {  // each leaf might be of one token
    const std::int64_t lanes = std::int64_t{rows.tokens} * rows.heads * lanes_of_row();
    return static_cast<index_t>((lanes + threads - 1) / threads);
  }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t        place = gpu.block() * (threads / lanes_of_row()) + gpu.lane() / lanes_of_row();
    const index_t        leaf = place / rows.heads, head = place % rows.heads, own = gpu.lane() % lanes_of_row();
    const index_t        set   = leaves.set_of(head);
    const leaf_range     range = leaf < leaves.count[set] ? leaves.ranges_of(set, rows.tokens)[leaf] : leaf_range{0, 0};
    const index_t* const members = clusters.of_set(set, rows.tokens).members;
    eight_elements       all;
    for (index_t m = range.begin; gpu.ballot(m < range.end) != 0; ++m) {
      const bool         more = m < range.end;
      const auto         size = static_cast<float>(m - range.begin + 1);
      const std::int64_t to   = std::int64_t{head} * rows.tokens + m;
      if (more) {
        all.add(load_8(rows.row(members[m], head) + 8 * own), m == range.begin);
        store_8(reinterpret_cast<std::uint16_t*>(means + to * rows.dim + 8 * own), all.mean(size));
      }
      if (!variances) continue;
      const float variance = variance_of_group(gpu, all.spread(size), size, own % most_groups);
      if (more && own < variance_parts) variances[to * variance_parts + own] = part_of(variance, own / most_groups);
    }
  }

 private:
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t lanes_of_row() const { return rows.dim / 8; }

  /// Sums over the rows so far. Squares are of the distances to the first row: near to it, unlike squares of the
  /// elements, they lose no digits.
  struct eight_elements {
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
        total += squares[e] - size * shift * shift;
      }
      return total;
    }
  };

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

/// Which rows make up the far fields of some chunks.
struct far_fields {
  using shared                            = no_shared;
  static constexpr index_t threads        = 256;
  static constexpr index_t waves_per_simd = 1;

  cluster_memory clusters;
  leaf_memory    leaves;
  index_t        tokens, chunk, window;
  index_t        chunks;  // from leaves.first on; 0: one field, of all tokens

  /// One for each of the chunks and set of leaves.
  CASCADA_HOST_DEVICE CASCADA_INLINE index_t fields() const { return (chunks > 0 ? chunks : 1) * leaves.sets; }
  index_t                                    grid() const { return fields() * ((tokens + threads - 1) / threads); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t           field = gpu.block() % fields(), j = gpu.block() / fields() * threads + gpu.thread();
    const index_t           set = field % leaves.sets, count = leaves.count[set];
    const cluster_memory    own  = clusters.of_set(set, tokens);
    const index_t           edge = chunks > 0 ? edge_of((leaves.first + field / leaves.sets) * chunk, window) : tokens;
    const leaf_range* const ranges = leaves.ranges_of(set, tokens);
    const auto              first  = [&](index_t leaf) { return own.members[ranges[leaf].begin]; };
    if (j == 0 && (count == 0 || first(0) >= edge)) leaves.far_count[field] = 0;
    if (j >= count || first(j) >= edge) return;
    // First tokens ascend: older leaves are the first.
    if (j + 1 == count || first(j + 1) >= edge) leaves.far_count[field] = j + 1;
    leaves.far_rows[std::int64_t{field} * tokens + j] = own.place_from(ranges[j].begin, ranges[j].end, edge) - 1;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
