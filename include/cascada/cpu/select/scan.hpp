#pragma once
// Tokens against the representatives so far, panel by panel, until each has found the one that stands for it.

#include <algorithm>
#include <cstdint>

#include "cascada/cpu/select/stretch.hpp"

namespace cascada::inline CASCADA_ABI::kernel::select {

/// The lowest `count` bits, 0 to 64.
CASCADA_INLINE constexpr std::uint64_t bits_up_to(index_t count) noexcept {
  return count < 64 ? (std::uint64_t{1} << count) - 1 : ~std::uint64_t{0};
}

/// Moves the rows of unsettled tokens together if that frees a tile.
template <index_t Height, class Products, row_scalar Scalar, cpu_backend B>
index_t drop_settled(const selection_call<Scalar, B>& call, const selection_stretch<B>& stretch, Products& way,
                     index_t first, index_t count) noexcept {
  const auto settled = [&](index_t place) { return call.settled(stretch.found[stretch.local(way.token(place))]); };
  index_t    left    = 0;
  for (index_t t = first; t < first + count; ++t) left += !settled(t);
  if ((left + Height - 1) / Height == (count + Height - 1) / Height) return count;
  index_t to = first;
  for (index_t t = first; t < first + count; ++t) {
    if (settled(t)) continue;
    if (t != to) way.copy(t, to);
    ++to;
  }
  return left;
}

/// Compares the tokens at `count` places from `first` on with the representatives from `from` on, in order. Tokens
/// leave when they are settled; the places of the others move together. Returns how many there are.
template <class Products, row_scalar Scalar, cpu_backend B>
index_t scan(const selection_call<Scalar, B>& call, selection_stretch<B>& stretch, Products& way, index_t first,
             index_t count, index_t from, compared_pairs<B>& pairs) noexcept {
  constexpr index_t     width = strip_width<B>;
  const packed_rows<B>& known = way.known();
  for (index_t strip = from / width, strips; strip < known.strips() && count > 0; strip += strips) {
    strips                     = next_strips(Products::strips, known.strips() - strip);
    const index_t       origin = strip * width;  // of the panel's columns, those from `begin` to `end` count
    const index_t       begin = std::max(from - origin, 0), end = std::min(known.count() - origin, strips * width);
    const std::uint64_t columns = bits_up_to(end) & ~bits_up_to(begin);
    way.multiply(first, count, known, strip, strips);
    for (index_t t = first; t < first + count; ++t) {
      const index_t     token = way.token(t), local = stretch.local(token);
      const tile_row<B> row{way.sums(t), strips};
      std::uint64_t     possible = way.possible(local, row, known.bounds(strip)) & columns;
      if (possible == 0) continue;
      const std::uint64_t sure = Products::canonical ? possible : way.sure(local, row, known.bounds(strip));
      for (match<B>& best = stretch.found[local]; possible != 0 && !call.settled(best); possible &= possible - 1) {
        const index_t c = __builtin_ctzll(possible);
        call.template judge<Products::canonical>(token, origin + c, row.products[c], sure >> c & 1, best, pairs);
      }
    }
    pairs.evaluated += std::int64_t{count} * (end - begin);
    count = drop_settled<Products::height>(call, stretch, way, first, count);
  }
  return drop_settled<1>(call, stretch, way, first, count);
}

/// Compares the tokens at `count` places from `first` on as scan does, in parallel slices, and moves what is left
/// together. `load`: the tokens whose rows are brought to these places first; null: they are there.
template <class Products, row_scalar Scalar, cpu_backend B>
index_t scan_slices(const selection_call<Scalar, B>& call, selection_stretch<B>& stretch, Products& way,
                    const index_t* load, index_t first, index_t count, index_t from, compared_pairs<B>& pairs) {
  // Whole tiles, and one slice to a thread: the representatives pass through its caches once per slice.
  constexpr index_t tile    = Products::height;
  const index_t     workers = detail::workers_of(call.where.executor), share = (count + workers - 1) / workers;
  const index_t     slice = (share + tile - 1) / tile * tile, slices = slice == 0 ? 0 : (count + slice - 1) / slice;
  index_t           left[extent(stretch_tokens / tile + 1)];
  compared_pairs<B> compared[extent(stretch_tokens / tile + 1)];
  parallel_for<B>(call.where.executor, slices, [&](index_t s) {
    [[maybe_unused]] const typename Products::scope on;
    const index_t begin = first + s * slice, size = std::min(slice, count - s * slice);
    for (index_t t = begin; load && t < begin + size; ++t) way.load(load[t - first], t, stretch.local(load[t - first]));
    compared[s] = {};
    left[s]     = scan(call, stretch, way, begin, size, from, compared[s]);
  });
  index_t to = first;
  for (index_t s = 0; s < slices; ++s) {
    pairs.add(compared[s]);
    for (index_t t = first + s * slice; t < first + s * slice + left[s]; ++t, ++to)
      if (t != to) way.copy(t, to);
  }
  return to - first;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::select
