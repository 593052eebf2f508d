#pragma once
// The loops over a block's keys, a tile at a time: while one is multiplied with the rows' queries, the next is on its
// way from global memory.

#include <type_traits>

#include "cascada/hip/attention/logits.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// One tile after the other.
struct in_turn {
  template <class Turn>
  CASCADA_DEVICE CASCADA_INLINE void operator()(index_t count, const Turn& turn) const {
#pragma GCC unroll 1
    for (index_t i = 0; i < count; ++i) turn(i);
  }
};

/// Of a block. `Values`: tiles come with values.
///
/// Of what both loops are given, `kernel` knows the keys (logits_at()), `turns(count, turn)` calls turn(i) for tiles 0
/// <= i < count in order, and `use(tile, logits)` hears of each tile's logits while its values, if wanted, lie in
/// shared memory.
template <matrix_scalar Scalar, index_t Dim, class Counts, bool Values, class Place = rows_in_order>
struct tile_loops {
  using tiles                   = key_tiles<Scalar, Dim>;
  using logits_of               = key_logits<Scalar, Dim, Counts, Place>;
  using walk                    = typename logits_of::walk;
  static constexpr index_t keys = tiles::keys;  // at a time

  struct shared {
    std::conditional_t<Values, typename tiles::shared, typename tiles::shared_keys> tile;
    typename logits_of::shared                                                      logits;
  };

  template <class Gpu, class Kernel>
  CASCADA_DEVICE CASCADA_INLINE static auto near_from(Gpu& gpu, const Kernel& kernel, const walk& now, index_t tile) {
    const index_t first = now.from + keys * tile;
    if constexpr (Place::in_pages)
      return
          typename tiles::template listed<Values>(gpu, kernel.near.rows, now.kv_head, kernel.near.place.rows + first);
    else
      return typename tiles::template adjacent<Values>(gpu, kernel.near.rows, now.kv_head, first);
  }
  template <class Gpu, class Kernel>
  CASCADA_DEVICE CASCADA_INLINE static auto listed_from(Gpu& gpu, const Kernel& kernel, const walk& now, index_t tile) {
    return typename tiles::template listed<Values>(gpu, kernel.far.rows, now.kv_head, now.list() + keys * tile);
  }

  /// Tiles in which every query sees every place: the loops that long sequences spend their time in. Where leaves open,
  /// rows are still masked.
  template <bool Listed, class Gpu, class Kernel, class Reader, class Turns, class Use>
  CASCADA_DEVICE CASCADA_INLINE static void whole(Gpu& gpu, shared& lds, const Kernel& kernel, const walk& now,
                                                  const tile_range& of, Reader reader, const vector8 (&query)[Dim / 16],
                                                  const Turns& turns, const Use& use) {
    const index_t           first = keys * of.begin, count = of.count();
    typename tiles::carried next;
    reader.fetch(gpu, next, count > 1);
    leaf_terms terms = {};
    if constexpr (Listed) terms = kernel.logits_at().terms_of(gpu, now, {true, first, now.far_count});
    turns(count, [&](index_t i) {
      const key_tile own = {Listed, first + keys * i, now.far_count};
      stage(gpu, lds, next);
      if constexpr (Listed) kernel.logits_at().stage_terms(gpu, lds.logits, terms);
      gpu.barrier();
      reader.fetch(gpu, next, i + 2 < count);
      sums_16 logits = {};
      if constexpr (Listed) {
        terms  = kernel.logits_at().terms_of(gpu, now, {true, first + keys * (i + 1), now.far_count});
        logits = kernel.logits_at().count_keys(gpu, lds.logits, own);
      }
      logits_of::multiply_keys(gpu, lds.tile, query, logits);
      if constexpr (Listed && logits_of::opens) kernel.logits_at().mask_rows(gpu, lds.logits, logits);
      use(own, logits);
      gpu.barrier();
    });
  }

  /// Any tiles, at least one: of the list, and those near of which some query sees a part.
  template <class Gpu, class Kernel, class Tiles, class Turns, class Use>
  CASCADA_DEVICE CASCADA_INLINE static void masked(Gpu& gpu, shared& lds, const Kernel& kernel, const walk& now,
                                                   index_t count, const Tiles&                    tile_at,
                                                   const vector8 (&query)[Dim / 16], const Turns& turns,
                                                   const Use& use) {
    typename tiles::carried next;
    leaf_terms              terms = {};
    kernel.logits_at().fetch_keys(gpu, now, tile_at(0), next, terms);
    fetch_values(gpu, kernel, now, tile_at(0), next);
    turns(count, [&](index_t i) {
      stage(gpu, lds, next);
      kernel.logits_at().stage_terms(gpu, lds.logits, terms);
      gpu.barrier();
      const key_tile following = tile_at(i + 1 < count ? i + 1 : i);
      kernel.logits_at().fetch_keys(gpu, now, following, next, terms);
      fetch_values(gpu, kernel, now, following, next);
      const key_tile own = tile_at(i);
      if (kernel.logits_at().meets(gpu, lds.logits, now, own)) {
        sums_16 logits = {};
        if constexpr (!logits_of::adjusts) logits = kernel.logits_at().count_keys(gpu, lds.logits, own);
        logits_of::multiply_keys(gpu, lds.tile, query, logits);
        if constexpr (logits_of::sloped)
          kernel.logits_at().slope_scores(gpu, lds.logits, now, own, logits);
        else if constexpr (logits_of::adjusts)
          kernel.logits_at().adjust_scores(gpu, lds.logits, own, logits);
        kernel.logits_at().mask(gpu, lds.logits, now, own, logits);
        use(own, logits);
      }
      gpu.barrier();
    });
  }

 private:
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void stage(Gpu& gpu, shared& lds, const typename tiles::carried& next) {
    tiles::stage_keys(gpu, lds.tile, next);
    if constexpr (Values) tiles::stage_values(gpu, lds.tile, next);
  }

  template <class Gpu, class Kernel>
  CASCADA_DEVICE CASCADA_INLINE static void fetch_values(Gpu& gpu, const Kernel& kernel, const walk& now,
                                                         const key_tile& from, typename tiles::carried& next) {
    if constexpr (Values) {
      typename tiles::value_rows rows;
#pragma GCC unroll 2
      for (index_t l = 0; l < tiles::value_rounds; ++l)
        now.rows_of(from, tiles::part_of(gpu).value + tiles::value_step * l, 1, rows.row[l]);
      tiles::fetch_values(gpu, from.listed ? kernel.far.rows : kernel.near.rows, now.kv_head, rows, next);
    }
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
