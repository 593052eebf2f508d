#pragma once
// Which keys a tile of queries reads, 32 at a time: those that all of them see, near and of the list, then the others:
// the rest of the list, sinks, and the rest of the near keys. Opened tokens come last. Of sliding windows, keys that
// only the first queries still see take the place of sinks.

#include <cstdint>
#include <type_traits>

#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/leaf_statistics.hpp"
#include "cascada/hip/attention/operands.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// 32 keys of one kind.
struct key_tile {
  bool    listed;
  index_t first, count;    // places of its keys: from `first` on, below `count`
  bool    opened = false;  // tokens of leaves that are open
};

/// Tiles [begin, end) of a block's.
struct tile_range {
  index_t begin, end;

  CASCADA_DEVICE CASCADA_INLINE index_t count() const { return end - begin; }

  /// The part that is number `i`, where each has `tiles`; none beyond the end.
  CASCADA_DEVICE CASCADA_INLINE tile_range part(index_t i, index_t tiles) const {
    const index_t first = begin + i * tiles;
    return {first, end - first < tiles ? end : first + tiles};
  }

  /// Those among `number` tiles from `first` on, counted from there; not fewer than none.
  CASCADA_DEVICE CASCADA_INLINE tile_range among(index_t first, index_t number) const {
    const index_t from = begin < first ? 0 : begin - first, to = end - first;
    return {from, to < number ? to : number};
  }
};

/// What a leaf's logits need besides its mean key: log2 of its size, over the scale of the logits, and its variances;
/// and where leaves open, the rows of one wave that see it.
struct leaf_terms {
  float         bias;
  vector8       variances;
  std::uint32_t rows;
};

/// Of one band and KV head: the tokens of open leaves. And of the block, which rows see what.
struct opened_for_block {
  device_pointer<const index_t>       tokens;
  device_pointer<const index_t>       places;
  index_t                             count;
  device_pointer<const std::uint32_t> rows;    // of the block's first wave; the others' follow
  index_t                             stride;  // from wave to wave
};

template <matrix_scalar Scalar, bool Opens = false, bool Slides = false, class Place = rows_in_order,
          bool Adjusts = false>
struct key_walk {
  static constexpr index_t keys = keys_of_tile;

  struct none {};

  const listed_keys<Scalar>&      far;
  const near_keys<Scalar, Place>& near;
  index_t                         kv_head, field;                           // number of the chunk
  index_t                         from = 0, near_count = 0, far_count = 0;  // near keys: [from, from + near_count)
  index_t                         outer = 0, sinks = 0;                     // and [outer, outer + sinks) before these
  index_t                         near_whole = 0, far_whole = 0;            // tiles whose places all queries see
  index_t                         list_number = 0;                          // of the leaves for the chunk

  std::conditional_t<Opens, const opened_for_block*, none> opened = {};  // in shared memory, for want of registers
  std::conditional_t<Opens, index_t, none>                 opened_count = {};  // the same as there

  /// For queries at places `earliest` to `latest` of a chunk that begins at `chunk_begin`; those of other calls might
  /// lie up to `closing`. Which keys a row meets together does not depend on `latest`. Of windows that slide past a
  /// block while it lasts, all keys are outer ones.
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE void begin(Gpu& gpu, index_t chunk_begin, index_t earliest, index_t closing,
                                           index_t latest) {
    from = near.unlimited ? 0 : edge_of(chunk_begin, near.window);
    if (slides()) outer = first_in_window(earliest, near.sliding), from = first_in_window(closing, near.sliding);
    list_number = (field - far.first) * far.sets + set();
    if (!Adjusts) list_number = gpu.uniform(list_number);  // where there are scalar registers for what depends on it
    far_count  = far.count ? gpu.uniform(far.count[far.stride > 0 ? list_number : 0]) : 0;
    near_count = gpu.uniform(!near.exists ? 0 : (near.causal ? latest + 1 : near.tokens) - from);
    sinks      = !near.exists ? 0 : near.sinks < from ? near.sinks : from;
    if (slides()) sinks = from - outer;
    const index_t by_all = near.causal ? earliest + 1 - from : near_count;
    const index_t listed = far.causal && earliest < far_count ? earliest + 1 : far_count;
    near_whole           = gpu.uniform(near.exists && by_all > 0 ? by_all / keys : 0);
    far_whole            = gpu.uniform(listed / keys);
  }

  CASCADA_DEVICE CASCADA_INLINE const index_t* list() const { return far.list + far.stride * list_number; }

  /// Tiles of a block: near ones and listed ones without masks, then those with masks. What later queries of the block
  /// add to them comes last.
  CASCADA_DEVICE CASCADA_INLINE index_t tiles() const { return near_whole + far_whole + masked(); }

  /// Tiles with masks: first those of the list.
  CASCADA_DEVICE CASCADA_INLINE index_t  masked() const { return far_masked() + near_masked(); }
  CASCADA_DEVICE CASCADA_INLINE key_tile tile_at(index_t i) const {
    return i < far_masked() ? far_tile_at(i) : near_tile_at(i - far_masked());
  }
  CASCADA_DEVICE CASCADA_INLINE index_t far_masked() const { return (far_count + keys - 1) / keys - far_whole; }
  CASCADA_DEVICE CASCADA_INLINE index_t near_masked() const { return (near_places() + keys - 1) / keys; }
  /// The same if there were queries up to the one at `place`.
  CASCADA_DEVICE CASCADA_INLINE index_t near_masked(index_t place) const {
    return (sinks + place + 1 - from - keys * near_whole + keys - 1) / keys;
  }
  CASCADA_DEVICE CASCADA_INLINE key_tile far_tile_at(index_t i) const {
    return {true, keys * (i + far_whole), far_count};
  }
  CASCADA_DEVICE CASCADA_INLINE key_tile near_tile_at(index_t i) const { return {false, keys * i, near_places()}; }

  /// Tiles of opened tokens.
  CASCADA_DEVICE CASCADA_INLINE index_t opened_tiles() const
    requires Opens
  {
    return (opened_count + keys - 1) / keys;
  }
  CASCADA_DEVICE CASCADA_INLINE key_tile opened_tile_at(index_t i) const
    requires Opens
  {
    return {false, keys * i, opened->count, true};
  }

  /// How many keys of a tile the query at `place` sees.
  CASCADA_DEVICE CASCADA_INLINE index_t seen(const key_tile& own, index_t place) const {
    const bool    causal = (own.listed & far.causal) | (!own.listed & near.causal);
    const index_t limit  = !causal ? own.count : place - (own.listed ? 0 : ahead()) + 1;
    return (limit < own.count ? limit : own.count) - own.first;
  }

  CASCADA_DEVICE CASCADA_INLINE bool slides() const { return Slides && near.sliding > 0; }

  /// How many keys of a tile, from the first on, the sliding window of the query at `place` has passed.
  CASCADA_DEVICE CASCADA_INLINE index_t passed(const key_tile& own, index_t place) const {
    return place + 1 - own.first - outer - near.sliding;
  }

  /// Row numbers of places first + k of a tile for `Count` k, `step` apart; beyond the last key the last one again,
  /// whose logits nobody looks at.
  template <index_t Count>
  CASCADA_DEVICE CASCADA_INLINE void rows_of(const key_tile& own, index_t k, index_t step,
                                             index_t (&row)[Count]) const {
#pragma GCC unroll 8
    for (index_t i = 0; i < Count; ++i) {
      const index_t place = own.first + k + step * i;
      row[i]              = place < own.count ? place : own.count - 1;
    }
    if (own.listed || own.opened) {
      const index_t* from_list = list();
      if constexpr (Opens) from_list = own.opened ? opened->tokens.get() : from_list;
#pragma GCC unroll 8
      for (index_t i = 0; i < Count; ++i) row[i] = from_list[row[i]];
    } else {
#pragma GCC unroll 8
      for (index_t i = 0; i < Count; ++i) row[i] = near.place(token_of(row[i]));
    }
  }

  /// The row of pair_counts for a query, by its place in the slice.
  CASCADA_DEVICE CASCADA_INLINE index_t counts_of(index_t place) const { return far.counts.number(set(), place); }

  /// The token at a place of near keys.
  CASCADA_DEVICE CASCADA_INLINE index_t token_of(index_t place) const {
    return place + (place < sinks ? (Slides ? outer : 0) : ahead());
  }

  /// Of a tile's leaf `k`; zeros where keys are no leaves, as those of a list may be, unless `Leaves`.
  template <bool Leaves, class Gpu>
  CASCADA_DEVICE CASCADA_INLINE leaf_terms terms_of(Gpu& gpu, const key_tile& own, index_t k) const {
    leaf_terms terms = {};
    if (!own.listed || (!Leaves && !far.sizes)) return terms;
    const index_t place = own.first + k < own.count ? own.first + k : own.count - 1, row = list()[place];
    const index_t size = (far.sizes + far.stride * list_number)[place];
    terms.bias         = gpu.log2(static_cast<float>(size)) * (Adjusts ? 1.0f : far.unit);
    if (far.variances.groups > 0)
      terms.variances = load_8(far.variances.rows + kv_head * far.variances.head + std::int64_t{row} * variance_parts);
    return terms;
  }

  /// Of a tile's leaf or opened token `k`: the rows of a wave that see it. Beyond the last one, none.
  CASCADA_DEVICE CASCADA_INLINE std::uint32_t rows_that_see(const key_tile& own, index_t wave, index_t k) const
    requires Opens
  {
    if (!own.listed && !own.opened) return 0;
    const index_t       place = own.first + k, there = place < own.count ? place : own.count - 1;
    const index_t       leaf = own.opened ? opened->places.get()[there] : there;
    const std::uint32_t rows = opened->rows.get()[wave * opened->stride + leaf];
    return place >= own.count ? 0 : own.opened ? rows : ~rows;
  }

 private:
  /// Of the KV head's leaves.
  CASCADA_DEVICE CASCADA_INLINE index_t set() const { return set_of_head(far.sets, kv_head); }

  /// Places of near keys in tiles with masks: from `outer` on, then tokens from ahead() + sinks on.
  CASCADA_DEVICE CASCADA_INLINE index_t near_places() const { return sinks + near_count - keys * near_whole; }
  CASCADA_DEVICE CASCADA_INLINE index_t ahead() const { return from + keys * near_whole - sinks; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
