#pragma once
// Portions: keys or values of one KV head that are read together, where they lie, while later ones are on their way.
//
// Blocks of Q8_0 become floats on their way into registers; other rows that are computed do so a portion at a time, in
// the cache.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/computed_rows.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/q8_0.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The rows of a portion, to be read, and of one that comes later, to be asked for.
template <class Row>
struct portion_rows;

/// A portion: keys of one KV head that are read together. The same keys of the other heads, which lie beside them, come
/// next. It is small: many rows that lie a power of two bytes apart evict each other, and what was asked for, from L1.
template <class Row>
inline constexpr index_t portion_keys = 16;
template <>
inline constexpr index_t portion_keys<block_row<q8_0_block>> = 32;

/// Lines of memory (of Q8_0, blocks) between a row's being asked for and its being read: a third of the L1 cache.
inline constexpr index_t lines_ahead = 256;

/// Where a portion begins: at a key of a head.
struct portion_place {
  index_t h, first;

  CASCADA_INLINE void go_on(index_t heads, index_t keys) noexcept {
    if (++h < heads) return;
    h = 0;
    first += keys;
  }
};

/// Lines of memory that a row of `dim` fills.
template <class Row>
CASCADA_INLINE index_t lines_of_row(index_t dim) noexcept {
  constexpr index_t of_line = portion_rows<Row>::elements_of_line;
  return (dim + of_line - 1) / of_line;
}

/// use(now, later) for the portions of `count` keys, rows of `dim`, the heads in turn, and those to be asked for.
template <class Row, class Use>
CASCADA_INLINE void for_portions(index_t heads, index_t count, index_t dim, const Use& use) noexcept {
  constexpr index_t keys  = portion_keys<Row>;
  const index_t     lines = keys * lines_of_row<Row>(dim), ahead = lines < lines_ahead ? lines_ahead / lines : 1;
  portion_place     later = {ahead % heads, ahead / heads * keys};
  for (portion_place now = {0, 0}; now.first < count; now.go_on(heads, keys), later.go_on(heads, keys)) use(now, later);
}

/// use(i, row now, row later) for the rows item(h, first + i) of two portions. There are `count` keys now and `left` to
/// be asked for later; the last of them stands in for those beyond.
template <class Row, class Item, class Use>
CASCADA_INLINE void for_rows_of_portion(const Item& item, portion_place now, portion_place later, index_t count,
                                        index_t left, const Use& use) noexcept {
  for (index_t i = 0; i < portion_keys<Row>; ++i)
    use(i, item(now.h, now.first + i < count ? now.first + i : count - 1),
        item(later.h, later.first + i < left ? later.first + i : left - 1));
}

/// Rows that lie in memory as they are read.
template <class Row, row_storage Stored>
struct lying_rows {
  static constexpr index_t elements         = detail::rows_of<Stored>::count(1);
  static constexpr index_t elements_of_line = elements > 1 ? elements : 64 / static_cast<index_t>(sizeof(Stored));

  const Stored* now[portion_keys<Row>];
  const Stored* later[portion_keys<Row>];

  template <class... Place>
  CASCADA_INLINE void begin(index_t, float*, const Place&... place) noexcept {
    for_rows_of_portion<Row>(
        place..., [&](index_t i, const auto& row, const auto& other) { now[i] = row.data, later[i] = other.data; });
  }
  CASCADA_INLINE void ask(index_t i, index_t c) const noexcept { __builtin_prefetch(later[i] + c / elements); }
};
template <row_scalar Scalar>
struct portion_rows<strided_row<Scalar>> : lying_rows<strided_row<Scalar>, Scalar> {};
template <>
struct portion_rows<block_row<q8_0_block>> : lying_rows<block_row<q8_0_block>, q8_0_block> {};

/// Computed rows become floats in the worker's memory, [portion_keys, dim].
template <computed_row Row>
struct portion_rows<Row> {
  static constexpr index_t elements_of_line = elements_asked_for;

  const float* now[portion_keys<Row>];
  Row          later[portion_keys<Row>];

  template <class... Place>
  CASCADA_INLINE void begin(index_t dim, float* room, const Place&... place) noexcept {
    for_rows_of_portion<Row>(place..., [&](index_t i, const auto& row, const auto& other) {
      row.load(0, dim, room + i * dim);
      now[i] = room + i * dim, later[i] = other;
    });
    asm volatile("" : : "r"(room) : "memory");  // as in rounded_element
  }
  CASCADA_INLINE void ask(index_t i, index_t c) const noexcept { __builtin_prefetch(later[i].address(c)); }
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
