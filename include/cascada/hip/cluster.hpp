#pragma once
// Clusters on the device: members in token order, and prefix means of their keys and values.
//
// A far field is made of the older part of each cluster. Row m of the tables is the mean over a cluster's members up to
// the one at place m of `members`, so every far field of the sequence is a choice of rows, and each token is summed
// once, in token order: the sums do not depend on the chunks, or on the number of waves.

#include <cstdint>

#include "cascada/hip/select.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip {

/// Clusters of T tokens (cluster.hpp gives the shapes), and the far fields of the chunks.
struct cluster_memory {
  index_t* offsets;    // [r + 1]
  index_t* members;    // [T]
  index_t* slots;      // [T]: cluster of each token
  index_t* far_rows;   // [chunks, T]: rows of the tables, one for each cluster older than the chunk's near field
  index_t* far_count;  // [chunks]
};

/// Offsets of the clusters: a running sum of their sizes. One block.
struct cluster_offsets {
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = 1;

  struct shared {
    std::uint32_t total[threads / gfx942::wave];
  };

  selection_layer layer;
  cluster_memory  memory;

  index_t grid() const { return 1; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    auto&         totals = gpu.template shared<shared>();
    const index_t count  = gpu.uniform(*layer.count);
    std::uint32_t before = 0;
    for (index_t base = 0; base < count; base += threads) {
      const index_t       j    = base + gpu.thread();
      const std::uint32_t size = j < count ? static_cast<std::uint32_t>(layer.counts[j]) : 0;
      std::uint32_t       sum  = size;
#pragma GCC unroll 6
      for (index_t step = 1; step < gfx942::wave; step *= 2) {
        const std::uint32_t lower = gpu.shuffle(sum, gpu.lane() < step ? gpu.lane() : gpu.lane() - step);
        if (gpu.lane() >= step) sum += lower;
      }
      if (gpu.lane() == gfx942::wave - 1) totals.total[gpu.wave()] = sum;
      gpu.barrier();
      std::uint32_t own = before + sum - size;
      for (index_t w = 0; w < threads / gfx942::wave; ++w) {
        if (w < gpu.wave()) own += totals.total[w];
        before += totals.total[w];
      }
      if (j < count) memory.offsets[j] = static_cast<index_t>(own);
      gpu.barrier();
    }
    if (gpu.thread() == 0 && count >= 0) memory.offsets[count] = static_cast<index_t>(before);
  }
};

/// Members of each cluster, by one wave.
struct cluster_members {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 1;

  selection_layer layer;
  cluster_memory  memory;
  index_t         tokens;

  index_t grid() const { return tokens; }  // r is known to the device only

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (gpu.block() >= *layer.count) return;
    const index_t own = layer.indices[gpu.block()], end = gpu.uniform(memory.offsets[gpu.block() + 1]);
    index_t       next = gpu.uniform(memory.offsets[gpu.block()]);
    for (index_t base = gpu.uniform(own); next < end; base += gfx942::wave) {
      const index_t       i      = base + gpu.lane();
      const bool          member = i < tokens && layer.rep[i] == own;
      const std::uint64_t mask   = gpu.ballot(member);
      if (member) {
        memory.members[next + __builtin_popcountll(mask & ((std::uint64_t{1} << gpu.lane()) - 1))] = i;
        memory.slots[i] = gpu.block();
      }
      next += __builtin_popcountll(mask);
    }
  }
};

/// Prefix means of one cluster's rows, for one head: table [heads, T, dim].
template <matrix_scalar Scalar>
struct cluster_means {
  using shared                     = no_shared;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 1;
  static constexpr index_t widest  = 256;

  selection_layer          layer;
  cluster_memory           memory;
  heads_view<const Scalar> rows;
  Scalar*                  table;

  index_t grid() const { return rows.tokens * rows.heads; }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t cluster = gpu.block() / rows.heads, head = gpu.block() % rows.heads;
    if (cluster >= *layer.count) return;
    float         sums[widest / threads] = {};
    const index_t begin = memory.offsets[cluster], end = memory.offsets[cluster + 1];
    for (index_t m = begin; m < end; ++m) {
      const Scalar* const row  = rows.row(memory.members[m], head);
      Scalar* const       mean = table + (std::int64_t{head} * rows.tokens + m) * rows.dim;
      const auto          size = static_cast<float>(m - begin + 1);
#pragma GCC unroll 4
      for (index_t e = 0; e < widest / threads; ++e) {
        const index_t c = threads * e + gpu.lane();
        if (c >= rows.dim) continue;
        sums[e] += to_float(row[c]);
        mean[c] = from_float<Scalar>(sums[e] / size);
      }
    }
  }
};

/// Which rows make up the far field of each chunk.
struct far_fields {
  using shared                     = no_shared;
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = 1;

  selection_layer layer;
  cluster_memory  memory;
  index_t         tokens, chunk, window;
  bool            whole;  // one field, of all tokens

  CASCADA_HOST_DEVICE CASCADA_INLINE index_t fields() const { return whole ? 1 : (tokens + chunk - 1) / chunk; }
  index_t grid() const { return fields() * ((tokens + threads - 1) / threads); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    const index_t field = gpu.block() % fields(), j = gpu.block() / fields() * threads + gpu.thread();
    const index_t near  = field * chunk > window ? field * chunk - window : 0, edge = whole ? tokens : near;
    const index_t count = *layer.count;
    if (j == 0 && (edge == 0 || count <= 0)) memory.far_count[field] = 0;
    if (j >= count || layer.indices[j] >= edge) return;
    // Representatives ascend: those of older clusters are the first.
    if (j + 1 == count || layer.indices[j + 1] >= edge) memory.far_count[field] = j + 1;
    index_t low = memory.offsets[j], high = memory.offsets[j + 1];
    while (low < high) {
      const index_t middle = low + (high - low) / 2;
      if (memory.members[middle] < edge) low = middle + 1;
      else high = middle;
    }
    memory.far_rows[std::int64_t{field} * tokens + j] = low - 1;
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip
