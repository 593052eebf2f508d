#pragma once
// A tile of the Gram matrix: inner products of token rows on the matrix units, and the verdicts they lead to.

#include <cstdint>

#include "cascada/hip/gram/verdict.hpp"

namespace cascada::inline CASCADA_ABI::hip::gram {

/// A block's tile of the Gram matrix: its 4 waves take 32 rows each, and all of them up to 64 columns of tokens.
struct gram_tile {
  static constexpr index_t threads = 256;
  static constexpr index_t waves   = threads / gfx942::wave;
  static constexpr index_t columns = 64;
  static constexpr index_t slab    = 64;        // k at a time
  static constexpr index_t pitch   = slab + 8;  // rows 36 banks apart: 16-byte reads of 8 lanes meet no bank twice

  /// Columns of two slabs: one is read while the next is written.
  struct shared {
    alignas(16) std::uint16_t slabs[2][columns * pitch];
  };
};

/// sums [Tiles] of 32 x 32: rows x columns, over `cols` elements (a multiple of 8).
///
/// row        this lane's row of A, lane % 32 of its wave
/// column_of  (c): the column c, of 64 that the block stages; this wave reads those from 32 first_tile on
template <index_t Tiles, class Gpu, matrix_scalar Scalar, class Columns>
CASCADA_DEVICE CASCADA_INLINE void multiply(Gpu& gpu, gram_tile::shared& lds, index_t cols, const Scalar* row,
                                            const Columns& column_of, index_t first_tile, sums_16 (&sums)[Tiles]) {
  constexpr index_t slab = gram_tile::slab, pitch = gram_tile::pitch, steps = slab / 16, loads = 2;
  const index_t     half = gpu.lane() / 32 * 8;
  // Thread t stages vectors t and t + 256: row t / 8 (and 32 more), 8 elements from 8 (t % 8).
  const index_t stage_row = gpu.thread() / 8, stage_k = gpu.thread() % 8 * 8;
  const Scalar* column[loads];
#pragma GCC unroll 2
  for (index_t l = 0; l < loads; ++l) column[l] = column_of(stage_row + 32 * l);

  vector8    next_column[loads], next_row[steps];
  const auto fetch = [&](index_t k, auto load) {
#pragma GCC unroll 2
    for (index_t l = 0; l < loads; ++l) next_column[l] = load(column[l], k + stage_k);
#pragma GCC unroll 4
    for (index_t s = 0; s < steps; ++s) next_row[s] = load(row, k + 16 * s + half);
  };
  const auto within = [](const Scalar* from, index_t k) { return load_8(from + k); };
  const auto at_end = [&](const Scalar* from, index_t k) { return k < cols ? load_8(from + k) : vector8{}; };
  const auto stage  = [&](index_t buffer) {
#pragma GCC unroll 2
    for (index_t l = 0; l < loads; ++l)
      store_8(lds.slabs[buffer] + (stage_row + 32 * l) * pitch + stage_k, next_column[l]);
  };
  // Multiplies the slab in `buffer` while `load` brings the one at k.
  const auto turn = [&](index_t buffer, index_t k, auto load) {
    vector8 a[steps], b[Tiles][steps];
#pragma GCC unroll 4
    for (index_t s = 0; s < steps; ++s) a[s] = next_row[s];
#pragma GCC unroll 2
    for (index_t t = 0; t < Tiles; ++t)
#pragma GCC unroll 4
      for (index_t s = 0; s < steps; ++s)
        b[t][s] = load_8(lds.slabs[buffer] + (32 * (first_tile + t) + gpu.lane() % 32) * pitch + 16 * s + half);
    fetch(k, load);
    gpu.schedule_barrier();
#pragma GCC unroll 4
    for (index_t s = 0; s < steps; ++s)
#pragma GCC unroll 2
      for (index_t t = 0; t < Tiles; ++t) {
        sums[t] = gpu.template mfma_32x32x8<Scalar>(low(a[s]), low(b[t][s]), sums[t]);
        sums[t] = gpu.template mfma_32x32x8<Scalar>(high(a[s]), high(b[t][s]), sums[t]);
      }
    gpu.schedule_barrier();
    stage(buffer ^ 1);
    gpu.barrier();
  };

#pragma GCC unroll 2
  for (index_t t = 0; t < Tiles; ++t) sums[t] = sums_16{};
  std::uint32_t first = 0;
  gpu.keep(first);  // or masks of the first slab's lanes take scalar registers wherever products are in a loop
  fetch(static_cast<index_t>(first), at_end);
  stage(0);
  gpu.barrier();
  index_t k = slab, buffer = 0;
#pragma GCC unroll 1
  for (; k + slab <= cols; k += slab, buffer ^= 1) turn(buffer, k, within);
#pragma GCC unroll 1
  for (; k < cols + slab; k += slab, buffer ^= 1) turn(buffer, k, at_end);
}

/// What this lane's 16 sums tell about the first `count` of 32 rows with these norms. `found(covered, sum,
/// norm)` hears of each of the 16, also of rows beyond `count`.
template <class Gpu, class Rows, class Found>
CASCADA_DEVICE CASCADA_INLINE row_evidence judge_rows(Gpu& gpu, const judged_token<Rows>& token, const sums_16& sums,
                                                      const float* norms, index_t count, const Found& found) {
  const row_evidence seen = judge_sums(
      gpu, token, sums, [&](index_t row) { return norms[row]; },
      [&](index_t v, bool covered, float sum, float norm) {
        found(covered, sum, norm);
        if (v % 2 == 1) gpu.schedule_barrier();  // bounds the masks alive at a time
      });
  return {seen.sure & bits_below(count), seen.possible & bits_below(count)};
}

/// The canonical verdicts on a column's token and the first `count` of 32 rows, as bits. `rechecks` counts those that
/// sums did not decide.
template <class Gpu, class Rows, class Count>
CASCADA_DEVICE CASCADA_INLINE std::uint32_t rows_that_cover(Gpu& gpu, const judged_token<Rows>& token,
                                                            const sums_16& sums, const index_t* tokens,
                                                            const float* norms, index_t count, Count& rechecks) {
  const row_evidence seen = judge_rows(gpu, token, sums, norms, count, [](bool, float, float) {});
  return hip::rows_that_cover(gpu, seen, ~0u, [&](index_t row) {
    ++rechecks;
    return token.covered(token.product(tokens[row]), norms[row]);
  });
}

}  // namespace cascada::inline CASCADA_ABI::hip::gram
