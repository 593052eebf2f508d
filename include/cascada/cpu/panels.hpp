#pragma once
// Tiles: rows against panels of packed columns, the products of many pairs at once.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cascada/cpu/bf16_pairs.hpp"
#include "cascada/cpu/buffer.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::kernel {

/// Rows per tile, and vectors per panel: accumulators fill the register file and leave room for the operands.
struct gram_shape {
  index_t rows    = 6;
  index_t vectors = 2;
};

template <cpu_backend B>
inline constexpr gram_shape gram_tuning = contains(B::instructions, isa::avx512f) ? gram_shape{8, 2} : gram_shape{};

/// Columns of a panel.
template <cpu_backend B>
inline constexpr index_t panel_width = gram_tuning<B>.vectors* vec<B>::width;

/// What estimates of a token's products decide. The product with a column of norm n_j and spread w_j is below the
/// threshold where its estimate is below low n_j - spread w_j, and above it where it exceeds high n_j + spread w_j.
template <cpu_backend B>
struct product_bounds {
  float low = 0, high = 0, spread = 0;
};

/// Norms and spreads of a panel's columns, [panel_width] each.
struct column_bounds {
  const float* norms;
  const float* spreads;
};

/// One row of a tile: its products with the columns of a panel, still in registers.
template <cpu_backend B>
struct tile_row {
  vec<B> sum[gram_tuning<B>.vectors];

  CASCADA_INLINE static tile_row load(const float* products) noexcept {
    tile_row row;
    for (index_t v = 0; v < gram_tuning<B>.vectors; ++v) row.sum[v] = vec<B>::load(products + v * vec<B>::width);
    return row;
  }

  CASCADA_INLINE void store(float* products) const noexcept {
    for (index_t v = 0; v < gram_tuning<B>.vectors; ++v) sum[v].store(products + v * vec<B>::width);
  }

  /// Columns whose product is at least `scale` times their norm, as bits: the verdict of canonical products (but that a
  /// product of zero is not told apart from a threshold that underflowed to zero).
  CASCADA_INLINE std::uint32_t reached(float scale, const float* norms) const noexcept {
    std::uint32_t bits = 0;
    for (index_t v = 0; v < gram_tuning<B>.vectors; ++v)
      bits |= bits_less_equal(vec<B>::broadcast(scale) * vec<B>::load(norms + v * vec<B>::width), sum[v])
              << (v * vec<B>::width);
    return bits;
  }

  /// Columns that may cover the row, and those that surely do.
  CASCADA_INLINE std::uint32_t open(const product_bounds<B>& row, column_bounds columns) const noexcept {
    std::uint32_t bits = 0;
    for (index_t v = 0; v < gram_tuning<B>.vectors; ++v)
      bits |= bits_less_equal(edge(row.low, -row.spread, columns, v), sum[v]) << (v * vec<B>::width);
    return bits;
  }
  CASCADA_INLINE std::uint32_t sure(const product_bounds<B>& row, column_bounds columns) const noexcept {
    std::uint32_t bits = 0;
    for (index_t v = 0; v < gram_tuning<B>.vectors; ++v)
      bits |= bits_less(edge(row.high, row.spread, columns, v), sum[v]) << (v * vec<B>::width);
    return bits;
  }

 private:
  CASCADA_INLINE static vec<B> edge(float scale, float spread, column_bounds columns, index_t v) noexcept {
    return multiply_add(vec<B>::broadcast(spread), vec<B>::load(columns.spreads + v * vec<B>::width),
                        vec<B>::broadcast(scale) * vec<B>::load(columns.norms + v * vec<B>::width));
  }
};

/// Rows as columns of panels, in the order they were appended. A panel has panel_width columns in strips [depth, vector
/// width], depth-major: of 32-bit elements, floats or the bits of something else. Unused columns are zero.
template <cpu_backend B>
class packed_rows {
 public:
  void reserve(index_t rows, index_t depth) {
    const std::int64_t panels = (std::int64_t{rows} + width - 1) / width;
    data_.reserve(panels * width * depth);
    norms_.reserve(panels * width);
    spreads_.reserve(panels * width);
  }

  void clear(index_t depth) noexcept { count_ = 0, depth_ = depth; }

  /// Packs rows. Squares of elements are transposed in registers.
  void append(const float* const* rows, const float* norms, const float* spreads, index_t count) noexcept {
    for (index_t i = 0; i < count;) {
      const index_t column = open_column(), taken = std::min(count - i, lanes - column % lanes);
      float*        strip = column_of(count_ - column % lanes);
      if (column % lanes == 0)
        transpose_into(strip, rows + i, taken);
      else
        for (index_t lane = 0; lane < taken; ++lane)
          for (std::int64_t k = 0; k < depth_; ++k) strip[k * lanes + column % lanes + lane] = rows[i + lane][k];
      std::copy_n(norms + i, taken, norms_.data() + count_);
      std::copy_n(spreads + i, taken, spreads_.data() + count_);
      count_ += taken, i += taken;
    }
  }

  /// Copies columns of another packing of the same depth.
  void append(const packed_rows& from, const index_t* columns, index_t count) noexcept {
    for (index_t i = 0; i < count;) {
      const index_t column = open_column() % lanes, taken = std::min(count - i, lanes - column);
      const float*  source[lanes];
      for (index_t c = 0; c < taken; ++c) source[c] = from.column_of(columns[i + c]);
      float* target = column_of(count_);
      for (std::int64_t k = 0; k < depth_; ++k)
        for (index_t c = 0; c < taken; ++c) target[k * lanes + c] = source[c][k * lanes];
      for (index_t c = 0; c < taken; ++c) {
        norms_[count_ + c]   = from.norms_[columns[i + c]];
        spreads_[count_ + c] = from.spreads_[columns[i + c]];
      }
      count_ += taken, i += taken;
    }
  }

  CASCADA_INLINE index_t      count() const noexcept { return count_; }
  CASCADA_INLINE index_t      depth() const noexcept { return depth_; }
  CASCADA_INLINE const float* panel(index_t p) const noexcept {
    return data_.data() + std::int64_t{p} * width * depth_;
  }
  CASCADA_INLINE column_bounds bounds(index_t p) const noexcept {
    return {norms_.data() + std::int64_t{p} * width, spreads_.data() + std::int64_t{p} * width};
  }
  CASCADA_INLINE const float* norms(index_t p) const noexcept { return bounds(p).norms; }

 private:
  static constexpr index_t width = panel_width<B>, lanes = vec<B>::width;

  /// The first element of a column, in its strip.
  CASCADA_INLINE const float* column_of(index_t i) const noexcept {
    return data_.data() + std::int64_t{i / lanes} * lanes * depth_ + i % lanes;
  }
  CASCADA_INLINE float* column_of(index_t i) noexcept {
    return data_.data() + std::int64_t{i / lanes} * lanes * depth_ + i % lanes;
  }

  /// The next free column of the last panel; a new panel is cleared first.
  index_t open_column() noexcept {
    if (count_ % width == 0) {
      std::memset(column_of(count_), 0, static_cast<std::size_t>(depth_) * width * sizeof(float));
      std::fill_n(norms_.data() + count_, width, 0.0f);
      std::fill_n(spreads_.data() + count_, width, 0.0f);
    }
    return count_ % width;
  }

  void transpose_into(float* strip, const float* const* rows, index_t count) noexcept {
    index_t k = 0;
    for (; k + lanes <= depth_; k += lanes) {
      vec<B> tile[lanes];
      for (index_t lane = 0; lane < lanes; ++lane)
        tile[lane] = lane < count ? vec<B>::load(rows[lane] + k) : vec<B>::zero();
      transpose(tile);
      for (index_t lane = 0; lane < lanes; ++lane) tile[lane].store(strip + std::int64_t{k + lane} * lanes);
    }
    for (; k < depth_; ++k)
      for (index_t lane = 0; lane < count; ++lane) strip[std::int64_t{k} * lanes + lane] = rows[lane][k];
  }

  buffer<float, B> data_, norms_, spreads_;
  index_t          count_ = 0;
  index_t          depth_ = 0;
};

/// Products of Rows rows with the columns of a panel, depth lanes of E each. Of floats: the canonical chain where the
/// target has FMA, within sum_margin of it elsewhere. `use(i, tile_row)` gets them row by row.
template <cpu_backend B, class E, index_t Rows, class Use>
CASCADA_INLINE void gram_tile(const float* const* rows, const float* panel, index_t depth, Use&& use) noexcept {
  constexpr index_t  vectors = gram_tuning<B>.vectors;
  const std::int64_t strip   = std::int64_t{depth} * vec<B>::width;
  tile_row<B>        tile[Rows];
#pragma GCC unroll 8
  for (index_t i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (index_t v = 0; v < vectors; ++v) tile[i].sum[v] = vec<B>::zero();
  for (index_t k = 0; k < depth; ++k, panel += vec<B>::width) {
    vec<B> column[vectors];
#pragma GCC unroll 4
    for (index_t v = 0; v < vectors; ++v) column[v] = vec<B>::load(panel + v * strip);
#pragma GCC unroll 8
    for (index_t i = 0; i < Rows; ++i) {
      const auto element = vec<B>::broadcast(rows[i][k]);
#pragma GCC unroll 4
      for (index_t v = 0; v < vectors; ++v) tile[i].sum[v] = add_products<E>(element, column[v], tile[i].sum[v]);
    }
  }
#pragma GCC unroll 8
  for (index_t i = 0; i < Rows; ++i) use(i, tile[i]);
}

/// gram_tile for `count` rows, 1 to gram_tuning.rows.
template <cpu_backend B, class E = float, index_t Rows = gram_tuning<B>.rows, class Use>
CASCADA_INLINE void gram_tile_of(index_t count, const float* const* rows, const float* panel, index_t depth,
                                 Use&& use) noexcept {
  if constexpr (Rows > 1)
    if (count < Rows) return gram_tile_of<B, E, Rows - 1>(count, rows, panel, depth, use);
  gram_tile<B, E, Rows>(rows, panel, depth, use);
}

}  // namespace cascada::kernel
