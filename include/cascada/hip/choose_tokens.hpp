#pragma once
// Refinement, steps 2 and 4: the best clusters' tokens become candidates, the best candidates are chosen.

#include <cstdint>

#include "cascada/hip/rank.hpp"
#include "cascada/hip/refine_operands.hpp"

namespace cascada::hip {

/// The members of a row's best clusters, `limit` of them; ties go to lower clusters, and to a cluster's first tokens.
/// By one wave.
struct list_candidates {
  using shared                     = rank_histogram;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 1;

  refined_slice slice;

  index_t grid() const { return slice.rows(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*slice.valid < 0) return;
    auto&         memory   = gpu.template shared<shared>();
    const index_t token    = slice.first + gpu.block() / slice.kv_heads, kv_head = gpu.block() % slice.kv_heads;
    const index_t of_chunk = token / slice.chunk, far_tokens = slice.far_tokens(of_chunk);
    const index_t      clusters   = gpu.uniform(slice.clusters.far_count[of_chunk]);
    const index_t      limit      = slice.limit < far_tokens ? slice.limit : far_tokens;
    const float* const scores     = slice.scores.row(token - slice.first, kv_head);
    index_t* const     candidates = slice.candidates + std::int64_t{gpu.block()} * slice.limit;
    const rank_cut     cut        = find_cut(
        gpu, memory, clusters, limit, [&](index_t j) { return rank_of(scores[j]); },
        [&](index_t j) { return slice.size(of_chunk, j); });

    index_t listed = 0, room = cut.room;
    for (index_t base = 0; base < clusters; base += gfx942::wave) {
      const index_t       j     = base + gpu.lane();
      const std::uint32_t rank  = j < clusters ? rank_of(scores[j]) : 0;
      const index_t       size  = j < clusters ? slice.size(of_chunk, j) : 0;
      const bool          tied  = j < clusters && rank == cut.rank, above = j < clusters && rank > cut.rank;
      index_t             all_tied = 0, all = 0;
      const index_t       left  = room - sum_below(gpu, tied ? size : 0, all_tied);
      const index_t       part  = left < 0 ? 0 : left < size ? left : size;
      const index_t       taken = above ? size : tied ? part : 0;
      const index_t       place = listed + sum_below(gpu, taken, all);
      for (index_t m = 0; m < taken; ++m) candidates[place + m] = slice.clusters.offsets[j] + m;
      listed += all;
      room -= all_tied < room ? all_tied : room;
    }
    if (gpu.lane() == 0) slice.candidate_count[gpu.block()] = listed;
  }
};

/// The best `budget` candidates of a row, by their scores; ties go to lower tokens. Clusters lose them: their counts
/// drop, their means stay. By one wave.
struct choose_tokens {
  using shared                     = rank_histogram;
  static constexpr index_t threads = 64;
  static constexpr index_t waves   = 1;

  refined_slice slice;
  float         unscale;  // 1 / the scale of the logits

  index_t grid() const { return slice.rows(); }

  template <class Gpu>
  CASCADA_DEVICE void operator()(Gpu& gpu) const {
    if (*slice.valid < 0) return;
    auto&         memory   = gpu.template shared<shared>();
    const index_t token    = slice.first + gpu.block() / slice.kv_heads, kv_head = gpu.block() % slice.kv_heads;
    const index_t of_chunk = token / slice.chunk;
    const index_t count = gpu.uniform(slice.candidate_count[gpu.block()]);
    float* const  row   = slice.scores.row(token - slice.first, kv_head);
    const index_t taken = count > slice.budget ? choose_best(gpu, memory, row, count) : choose_all(gpu, count);
    gpu.barrier();
    write_counts(gpu, of_chunk, taken, row);
    if (gpu.lane() == 0) slice.chosen_count[gpu.block()] = taken;
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE const index_t* candidates(Gpu& gpu) const {
    return slice.candidates + std::int64_t{gpu.block()} * slice.limit;
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t* chosen(Gpu& gpu) const {
    return slice.chosen + std::int64_t{gpu.block()} * slice.budget;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t choose_all(Gpu& gpu, index_t count) const {
    for (index_t i = gpu.lane(); i < count; i += gfx942::wave) chosen(gpu)[i] = candidates(gpu)[i];
    return count;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE index_t choose_best(Gpu& gpu, rank_histogram& memory, const float* scores,
                                                    index_t count) const {
    const auto rank  = [&](index_t i) { return rank_of(scores[i]); };
    const auto token = [&](index_t i) { return slice.clusters.members[candidates(gpu)[i]]; };
    const auto cut   = find_cut(gpu, memory, count, slice.budget, rank, [](index_t) { return 1; });
    // More ties than room: the lowest tokens, which rank highest when their bits are turned around.
    index_t last = slice.tokens;
    if (cut.tied > cut.room) {
      const auto lower = find_cut(
          gpu, memory, count, cut.room, [&](index_t i) { return ~static_cast<std::uint32_t>(token(i)); },
          [&](index_t i) { return rank(i) == cut.rank ? 1 : 0; });
      last = static_cast<index_t>(~lower.rank);
    }
    index_t taken = 0;
    for (index_t base = 0; base < count; base += gfx942::wave) {
      const index_t       i     = base + gpu.lane();
      const bool          picks = i < count && (rank(i) > cut.rank || (rank(i) == cut.rank && token(i) <= last));
      const std::uint64_t mask  = gpu.ballot(picks), lower = mask & ((std::uint64_t{1} << gpu.lane()) - 1);
      if (picks) chosen(gpu)[taken + __builtin_popcountll(lower)] = candidates(gpu)[i];
      taken += __builtin_popcountll(mask);
    }
    return taken;
  }

  /// Chosen tokens of one cluster are neighbours: the first of them looks for the last.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void write_counts(Gpu& gpu, index_t of_chunk, index_t taken, float* row) const {
    const auto owner = [&](index_t i) { return slice.clusters.slots[slice.clusters.members[chosen(gpu)[i]]]; };
    const auto log   = [&](index_t left) { return gpu.log2(static_cast<float>(left)) * unscale; };
    for (index_t j = gpu.lane(); j < slice.clusters.far_count[of_chunk]; j += gfx942::wave)
      row[j] = log(slice.size(of_chunk, j));
    gpu.barrier();
    for (index_t i = gpu.lane(); i < taken; i += gfx942::wave) {
      const index_t cluster = owner(i);
      if (i > 0 && owner(i - 1) == cluster) continue;
      index_t low = i, high = taken;
      while (low < high) {
        const index_t middle = low + (high - low) / 2;
        if (owner(middle) <= cluster) low = middle + 1;
        else high = middle;
      }
      row[cluster] = log(slice.size(of_chunk, cluster) - (low - i));
    }
  }
};

}  // namespace cascada::hip
