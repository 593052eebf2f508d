#pragma once
// Weighted values of a portion: rows that are multiplied where they lie.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/computed_lanes.hpp"
#include "cascada/cpu/attention/portion_scores.hpp"
#include "cascada/cpu/attention/portions.hpp"
#include "cascada/cpu/attention/tile.hpp"
#include "cascada/cpu/attention/value_watch.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Lanes of the values of one key, or of two as pairs, for columns from c.
template <cpu_backend B, index_t Vectors, row_scalar Scalar>
CASCADA_INLINE void load_values(const Scalar* const* rows, index_t c, vec<B> (&lanes)[extent(Vectors)],
                                value_watch<B, float>&) noexcept {
  // clang-format off: it takes the pragma for a declaration
#pragma GCC unroll 8
  // clang-format on
  for (index_t v = 0; v < Vectors; ++v) lanes[v] = load_floats<B>(rows[0] + c + v * vec<B>::width);
}

template <cpu_backend B, index_t Vectors>
CASCADA_INLINE void load_values(const q8_0_block* const* rows, index_t c, vec<B> (&lanes)[extent(Vectors)],
                                value_watch<B, float>&) noexcept {
  constexpr index_t elements = q8_0_block::elements;
  auto              scale    = vec<B>::zero();
#pragma GCC unroll 8
  for (index_t v = 0; v < Vectors; ++v) {
    const index_t     at    = c + v * vec<B>::width;
    const q8_0_block& block = rows[0][at / elements];
    if (v * vec<B>::width % elements == 0) scale = broadcast_float<B>(block.scale);
    lanes[v] = load_integers<B>(block.values + at % elements) * scale;
  }
}

#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
template <cpu_backend B, index_t Vectors>
CASCADA_INLINE void load_values(const bfloat16* const* rows, index_t c, vec<B> (&lanes)[extent(Vectors)],
                                value_watch<B, bf16_pair>& watch) noexcept {
  const __m512i lower = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,  //
                                         39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
#pragma GCC unroll 4
  for (index_t v = 0; v < Vectors; v += 2) {
    const __m512i first  = _mm512_loadu_si512(rows[0] + c + v * 16);
    const __m512i second = _mm512_loadu_si512(rows[1] + c + v * 16);
    watch.see({_mm512_castsi512_ps(first)}), watch.see({_mm512_castsi512_ps(second)});
    lanes[v].value     = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, lower, second));
    lanes[v + 1].value = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, upper, second));
  }
}
#endif

/// values = values x factor + weights x V for `count` rows of a tile from `row`, 1 to rows_at_a_time, all columns, and
/// `lanes` lanes of keys from `first` of a portion.
template <cpu_backend B, class E, kv_row Row, index_t Rows = rows_at_a_time>
[[gnu::flatten]] void add_portion(const query_rows<B, E>& tile, index_t row, index_t count, const float* weights,
                                  std::int64_t stride, const portion_rows<Row>& rows, index_t first, index_t lanes,
                                  const float* factors, value_watch<B, E>& watch) noexcept {
  if constexpr (Rows > 1)
    if (count < Rows)
      return add_portion<B, E, Row, Rows - 1>(tile, row, count, weights, stride, rows, first, lanes, factors, watch);
  constexpr index_t elements = elements_per_lane<E>, line = portion_rows<Row>::elements_of_line;
  value_watch<B, E> seen   = watch;
  float*            values = tile.values_of(row);
  by_columns<B, attention_tuning<B>.vectors, elements>(tile.value_stride, [&]<index_t Vectors>(index_t c) {
    const auto load = [&](index_t j, vec<B>(&value)[extent(Vectors)]) {
      const index_t at = first + j * elements;
      load_values<B, Vectors>(rows.now + at, c, value, seen);
#pragma GCC unroll 2
      for (index_t e = 0; e < elements; ++e)
        for (index_t x = 0; x < Vectors * vec<B>::width; x += line) rows.ask(at + e, c + x);
    };
    value_tile<B, E, Rows, Vectors>(weights, stride, 0, lanes, factors, values + c, tile.value_stride, load);
  });
  watch = seen;
}

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
