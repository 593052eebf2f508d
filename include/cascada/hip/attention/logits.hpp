#pragma once
// Logits of 32 keys and the 32 queries of a wave, S^T [keys, queries] = K Q^T, with what keys count, and masked.

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cascada/hip/attention/adjust_scores.hpp"
#include "cascada/hip/attention/correction.hpp"
#include "cascada/hip/attention/opened_leaves.hpp"
#include "cascada/hip/attention/queries.hpp"
#include "cascada/hip/attention/tiles.hpp"
#include "cascada/hip/attention/walk.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// How keys of the list count: each the same for all queries, or as pair_counts says. Or as leaves do for bands of
/// queries: all of them, or only those that are closed for a query, which sees the tokens of the others.
struct counts_of_keys {};
struct counts_of_pairs {};
struct leaves_of_bands {};
struct closed_leaves_of_bands {};

/// The same where products are adjusted, the first two by one kernel; near keys alone may have slopes, and need no cap.
/// Few calls have it: all tiles have masks, so that there are fewer loops.
struct adjusted_counts {};
struct sloped_keys {};
struct adjusted_leaves_of_bands {};
struct adjusted_closed_leaves_of_bands {};

template <class Tag, class... Tags>
inline constexpr bool one_of = (std::same_as<Tag, Tags> || ...);

template <matrix_scalar Scalar, index_t Dim, class Counts, class Place = rows_in_order>
struct key_logits {
  using tiles                   = key_tiles<Scalar, Dim>;
  using carried                 = typename tiles::carried;
  using correction              = leaf_correction<Scalar, Dim>;
  static constexpr index_t keys = tiles::keys;  // at a time

  static constexpr bool same_for_all = !std::same_as<Counts, counts_of_pairs>;
  static constexpr bool pairs        = one_of<Counts, counts_of_pairs, adjusted_counts>;  // may be counted
  static constexpr bool opens        = one_of<Counts, closed_leaves_of_bands, adjusted_closed_leaves_of_bands>;
  static constexpr bool bands        = opens || one_of<Counts, leaves_of_bands, adjusted_leaves_of_bands>;
  static constexpr bool adjusts =
      one_of<Counts, adjusted_counts, sloped_keys, adjusted_leaves_of_bands, adjusted_closed_leaves_of_bands>;
  static constexpr bool slides =
      one_of<Counts, counts_of_keys, adjusted_counts, sloped_keys>;  // windows of near keys alone
  static constexpr bool whole_tiles = !adjusts;                      // have loops of their own

  static constexpr bool sloped = std::same_as<Counts, sloped_keys>;  // and no list

  struct none {};
  struct as_it_is {};
  using walk       = key_walk<Scalar, opens, slides, Place, adjusts>;
  using opening    = std::conditional_t<bands, opened_leaves, no_shared>;
  using adjustment = std::conditional_t<adjusts, score_adjustment, as_it_is>;
  struct no_counts {};
  struct rows_of_counts {
    index_t row[tiles::threads];  // of each lane's query, for want of registers
  };
  struct no_slopes {};
  struct slopes_of_queries {
    float of[tiles::threads];  // of each lane's query
  };
  struct rows_of_waves {
    std::uint32_t    see[waves_of_block * keys];  // of each wave, the rows that see a key
    opened_for_block opened;
  };
  struct shared {
    float   bias[keys];
    float   most[keys];             // bias, and the largest correction
    index_t place[tiles::threads];  // of each lane, for want of registers: its query's place among those with queries
    [[no_unique_address]] std::conditional_t<same_for_all && !sloped, typename correction::shared, no_shared>
                                                                                   corrections;
    [[no_unique_address]] std::conditional_t<opens, rows_of_waves, none>           rows;
    [[no_unique_address]] std::conditional_t<pairs, rows_of_counts, no_counts>     counts;
    [[no_unique_address]] std::conditional_t<sloped, slopes_of_queries, no_slopes> slopes;
  };

  const listed_keys<Scalar>&      far;
  const near_keys<Scalar, Place>& near;
  const opening&                  opened;
  index_t                         first;  // place of the first query
  const adjustment&               adjust;

  CASCADA_DEVICE CASCADA_INLINE bool corrects() const { return !sloped && far.variances.groups > 0; }

  /// The thread; without loops of their own for tiles without masks, what depends on it is computed where it is needed.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static index_t thread_of(Gpu& gpu) {
    auto thread = static_cast<std::uint32_t>(gpu.thread());
    if (!whole_tiles) gpu.keep(thread);
    return static_cast<index_t>(thread % tiles::threads);  // not negative, which the compiler no longer knows
  }

  /// The keys that a block of queries meets.
  template <class Gpu, class Queries>
  CASCADA_DEVICE CASCADA_INLINE walk keys_of(Gpu& gpu, shared& lds, const Queries& queries,
                                             const query_block& block) const {
    walk    now   = {far, near, block.kv_head, block.part - queries.field};
    index_t begin = block.begin;
    if constexpr (bands) {
      now.field = gpu.uniform(begin / opened.chunk), begin = now.field * opened.chunk;
      now.field -= queries.field;
    }
    now.begin(gpu, begin, queries.earliest(block), queries.closing(block), queries.latest(block));
    if (!whole_tiles) now.near_whole = now.far_whole = 0;
    if constexpr (opens) {
      const index_t      band = block.part - queries.first / queries.part;
      const index_t      list = gpu.uniform(band * queries.kv_heads + block.kv_head);
      const std::int64_t from = list * opened.stride;
      const index_t      rows = gpu.uniform(queries.rows_number_of(block));
      now.opened = &lds.rows.opened, now.opened_count = gpu.uniform(opened.count[list]);
      if (gpu.thread() == 0) {
        opened_for_block& to = lds.rows.opened;
        to.tokens = opened.tokens + from, to.places = opened.places + from;
        to.rows  = opened.rows_of(rows, 0);
        to.count = now.opened_count, to.stride = static_cast<index_t>(opened.stride);
      }
    }
    return now;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void load_query(Gpu& gpu, const Scalar* row, vector8 (&query)[Dim / 16]) {
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) query[s] = load_8(row + 16 * s + gpu.lane() / 32 * 8);
  }

  /// Keeps where a lane's query lies among those with queries.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void place_query(Gpu& gpu, shared& lds, const walk& now, const query_row& own) const {
    lds.place[gpu.thread()] = own.place;
    if constexpr (pairs) lds.counts.row[gpu.thread()] = now.counts_of(own.place - first);
    if constexpr (sloped) lds.slopes.of[gpu.thread()] = adjust.slope_of(own.head);
  }

  /// Keeps what leaves ask of a lane's query.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void measure_query(Gpu& gpu, shared& lds, const walk& now,
                                                   const vector8 (&query)[Dim / 16]) const {
    if constexpr (same_for_all && !sloped)
      if (corrects() && now.far_count > 0)
        lds.corrections.queries[gpu.thread()] = correction{far.variances}.measure(gpu, query);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void fetch_keys(Gpu& gpu, const walk& now, const key_tile& from, carried& next,
                                                leaf_terms& terms) const {
    typename tiles::key_rows at;
    now.rows_of(from, tiles::part_of(gpu).key, tiles::key_step, at.row);
    tiles::fetch_keys(gpu, from.listed ? far.rows : near.rows, now.kv_head, at, next);
    terms = terms_of(gpu, now, from);
  }

  /// Of key `thread`, and of a wave and a key which rows see it.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE leaf_terms terms_of(Gpu& gpu, const walk& now, const key_tile& from) const {
    const index_t thread = thread_of(gpu);  // more than there are keys: who has the same key does the same
    leaf_terms    terms  = {};
    if constexpr (same_for_all && !sloped) terms = now.template terms_of<bands>(gpu, from, thread % keys);
    if constexpr (opens) terms.rows = now.rows_that_see(from, thread / keys % waves_of_block, thread % keys);
    return terms;
  }
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void stage_terms(Gpu& gpu, shared& lds, const leaf_terms& terms) const {
    if constexpr (same_for_all && !sloped) {
      const index_t thread = thread_of(gpu), key = thread % keys;
      if constexpr (opens) lds.rows.see[thread % (waves_of_block * keys)] = terms.rows;
      lds.bias[key] = terms.bias, lds.most[key] = terms.bias + far.variances.most;
      if (corrects()) store_8(lds.corrections.variances + key * variance_parts, terms.variances);
    }
  }

  /// What the products are added to.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 count_keys(Gpu& gpu, const shared& lds, const key_tile& own) const {
    if constexpr (!same_for_all) {
      return own.listed ? of_keys(gpu, far.counts.row(lds.counts.row[gpu.thread()]) + own.first) : sums_16{};
    } else {
      sums_16 logs = of_keys(gpu, lds.bias);
      if (!corrects() || !own.listed) return logs;
      const sums_16 most = of_keys(gpu, lds.most);
      logs               = correction{far.variances}.add_to(gpu, logs, lds.corrections, thread_of(gpu));
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) logs[v] = gpu.clamp(logs[v], most[v]);
      return logs;
    }
  }

  /// From products to logits with a slope: near keys at their distances. Those that a query does not see are masked
  /// later.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void slope_scores(Gpu& gpu, const shared& lds, const walk& now, const key_tile& own,
                                                  sums_16& logits) const {
    const index_t thread = thread_of(gpu), place = lds.place[thread];
    const float   slope = -lds.slopes.of[thread];
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      const float logit =
          adjust.cap > 0 ? adjust.cap * adjust(gpu, floats_2{logits[v]}).ratio[0] : logits[v] * adjust.scale;
      const index_t distance = place - now.token_of(own.first + row_32(thread % gfx942::wave, v));
      logits[v]              = __builtin_fmaf(slope, static_cast<float>(distance < 0 ? -distance : distance), logit);
      gpu.schedule_barrier();  // one at a time, for want of registers
    }
  }

  /// From products to logits, with what keys count. What leaves are corrected by shrinks as the cap's slope does,
  /// twice.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void adjust_scores(Gpu& gpu, shared& lds, const key_tile& own, sums_16& logits) const {
    const index_t  thread = thread_of(gpu), lane = thread % gfx942::wave;
    const sums_16  corrections = corrections_of(gpu, lds, own);
    const float    most        = far.variances.most;
    const floats_2 cap         = {adjust.cap, adjust.cap};
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; v += 2) {
      const auto     part    = adjust(gpu, floats_2{logits[v], logits[v + 1]});
      const floats_2 limited = {gpu.clamp(corrections[v], largest), gpu.clamp(corrections[v + 1], largest)};
      const floats_2 left    = limited * part.steep * part.steep;  // infinity times 0 would be NaN
      const index_t  row     = row_32(lane, v);
      const floats_2 added   = {gpu.clamp(left[0], most), gpu.clamp(left[1], most)};
      const floats_2 sums    = gpu.multiply_add(part.ratio, cap, added) + floats_2{lds.bias[row], lds.bias[row + 1]};
      logits[v] = sums[0], logits[v + 1] = sums[1];
      gpu.schedule_barrier();  // two at a time, for want of registers
    }
    if constexpr (pairs) {
      if (!far.counts.logs || !own.listed) return;
      const float* const counts = far.counts.row(lds.counts.row[thread]) + own.first;
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) logits[v] += counts[row_32(lane, v)];
    }
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void multiply_keys(Gpu& gpu, const typename tiles::shared_keys& lds,
                                                          const vector8 (&query)[Dim / 16], sums_16&   logits) {
    const std::uint16_t* const row = lds.key + gpu.lane() % 32 * tiles::key_pitch + gpu.lane() / 32 * 8;
#pragma GCC unroll 16
    for (index_t s = 0; s < Dim / 16; ++s) {
      const vector8 key = load_8(row + 16 * s);
      logits            = gpu.template mfma_32x32x8<Scalar>(low(key), low(query[s]), logits);
      logits            = gpu.template mfma_32x32x8<Scalar>(high(key), high(query[s]), logits);
    }
  }

  /// Whether some row of the wave sees some key of the tile; of leaves, true.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE bool meets(Gpu& gpu, const shared& lds, const walk& now, const key_tile& own) const {
    const index_t thread = thread_of(gpu);
    if (own.listed) return true;
    if constexpr (opens)
      if (own.opened) return gpu.ballot(lds.rows.see[thread / gfx942::wave * keys + thread % keys] != 0) != 0;
    const index_t place = lds.place[thread], seen = now.seen(own, place);
    return gpu.ballot(seen > 0 && (!now.slides() || now.passed(own, place) < (seen < keys ? seen : keys))) != 0;
  }

  /// Keys that a query does not see weigh nothing.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void mask(Gpu& gpu, const shared& lds, const walk& now, const key_tile& own,
                                          sums_16& logits) const {
    if constexpr (opens)
      if (own.listed || own.opened) return mask_rows(gpu, lds, logits);
    const index_t thread = thread_of(gpu), place = lds.place[thread], before = row_32(thread % gfx942::wave, 0);
    const index_t seen = now.seen(own, place), passed = now.slides() ? now.passed(own, place) : 0;
    if (gpu.ballot(seen < keys) != 0)
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) logits[v] = row_32(0, v) < seen - before ? logits[v] : nothing;
    if (gpu.ballot(passed > 0) != 0)
#pragma GCC unroll 16
      for (index_t v = 0; v < 16; ++v) logits[v] = row_32(0, v) < passed - before ? nothing : logits[v];
  }

  /// The same where it depends on the row: of open leaves, and of their tokens.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void mask_rows(Gpu& gpu, const shared& lds, sums_16& logits) const {
    const index_t              thread = thread_of(gpu), lane = thread % gfx942::wave;
    const std::uint32_t* const see = lds.rows.see + thread / gfx942::wave * keys;
    if (gpu.ballot(see[lane % keys] != ~std::uint32_t{0}) == 0) return;
    const std::uint32_t own = std::uint32_t{1} << lane % 32;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) {
      logits[v] = (see[row_32(lane, v)] & own) != 0 ? logits[v] : nothing;
    }
  }

 private:
  /// This lane's 16 of a tile's keys.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static sums_16 of_keys(Gpu& gpu, const float* of) {
    sums_16 own;
#pragma GCC unroll 16
    for (index_t v = 0; v < 16; ++v) own[v] = of[row_32(gpu.lane(), v)];
    return own;
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE sums_16 corrections_of(Gpu& gpu, const shared& lds, const key_tile& own) const {
    if (!corrects() || !own.listed) return sums_16{};
    return correction{far.variances}.add_to(gpu, sums_16{}, lds.corrections, thread_of(gpu));
  }

  static constexpr float nothing = -std::numeric_limits<float>::infinity();
  static constexpr float largest = std::numeric_limits<float>::max();
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
