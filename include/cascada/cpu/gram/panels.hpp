#pragma once
// Tiles: rows against panels of packed columns, the products of many pairs at once.
//
// A panel is a few strips of columns side by side, starting at any strip. A tile walks along k in slabs, so that a
// panel's slab stays in the nearest cache while all rows pass; between two slabs its sums lie in memory, unrounded.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/product_tile.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/cpu/gram/bounds.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

/// Rows per tile, and strips per panel: accumulators fill the register file and leave room for the operands.
struct gram_shape {
  index_t rows   = 6;
  index_t strips = 2;
};

template <cpu_backend B>
inline constexpr gram_shape gram_tuning = contains(B::instructions, isa::avx512f) ? gram_shape{8, 3} : gram_shape{};

/// Columns of a strip.
template <cpu_backend B>
inline constexpr index_t strip_width = vec<B>::width;

/// Columns of the widest panel.
template <cpu_backend B>
inline constexpr index_t panel_width = strip_width<B> * gram_tuning<B>.strips;

/// Steps of k in a slab for `count` rows: of the widest panel, 28 KiB. Where the rows exceed half of an L2 cache of
/// 2 MiB, four times that: they come from afar, and in longer runs faster.
template <cpu_backend B>
CASCADA_INLINE constexpr index_t slab_depth(index_t count, index_t depth) noexcept {
  constexpr index_t near = (28 << 10) / (4 * panel_width<B>) / 16 * 16;
  return std::int64_t{count} * depth * 4 > (1 << 20) ? 4 * near : near;
}

/// Strips of the next panel where `left` are to come: no single one is left over for the last.
CASCADA_INLINE constexpr index_t next_strips(index_t most, index_t left) noexcept {
  return left == most + 1 && most > 2 ? most - 1 : std::min(most, left);
}

/// Rows as columns, in the order they were appended, in strips [depth, strip_width], depth-major: of 32-bit elements,
/// floats or the bits of something else. Unused columns of the last strip are zero.
template <cpu_backend B>
class packed_rows {
 public:
  void reserve(index_t rows, index_t depth) {
    const std::int64_t columns = (std::int64_t{rows} + lanes - 1) / lanes * lanes;
    data_.reserve(columns * depth);
    norms_.reserve(columns);
    residuals_.reserve(columns);
  }

  void clear(index_t depth) noexcept {
    count_ = 0;
    depth_ = depth;
  }

  /// Packs rows. Patches of them are transposed in registers.
  void append(const float* const* rows, const float* norms, const float* residuals, index_t count) noexcept {
    for (index_t i = 0; i < count;) {
      const index_t column = count_ % lanes, taken = std::min(count - i, lanes - column);
      float*        strip = data_.data() + std::int64_t{count_ / lanes} * lanes * depth_;
      if (column == 0) {
        std::fill_n(norms_.data() + count_, lanes, 0.0f);
        std::fill_n(residuals_.data() + count_, lanes, 0.0f);
        transpose_into<true>(strip, 0, rows + i, taken);
      } else {
        transpose_into<false>(strip, column, rows + i, taken);
      }
      std::copy_n(norms + i, taken, norms_.data() + count_);
      std::copy_n(residuals + i, taken, residuals_.data() + count_);
      count_ += taken;
      i += taken;
    }
  }

  CASCADA_INLINE index_t      count() const noexcept { return count_; }
  CASCADA_INLINE index_t      depth() const noexcept { return depth_; }
  CASCADA_INLINE index_t      strips() const noexcept { return (count_ + lanes - 1) / lanes; }
  CASCADA_INLINE const float* strip(index_t s) const noexcept {
    return data_.data() + std::int64_t{s} * lanes * depth_;
  }

  CASCADA_INLINE column_bounds bounds(index_t s) const noexcept {
    return {norms_.data() + s * lanes, residuals_.data() + s * lanes};
  }

 private:
  static constexpr index_t lanes = strip_width<B>;

  /// Rows become the columns of a strip from `column` on: of one that is new, or zero there.
  template <bool New>
  [[gnu::flatten]] void transpose_into(float* strip, index_t column, const float* const* rows, index_t count) noexcept {
    using words = integers<B, std::uint32_t>;
    index_t k   = 0;
    for (; k + lanes <= depth_; k += lanes) {
      vec<B> tile[extent(lanes)];
      for (index_t lane = 0; lane < lanes; ++lane)
        tile[lane] = lane >= column && lane < column + count ? vec<B>::load(rows[lane - column] + k) : vec<B>::zero();
      transpose(tile);
      for (index_t lane = 0; lane < lanes; ++lane) {
        float* line = strip + std::int64_t{k + lane} * lanes;
        if constexpr (!New) {
          const auto both = words::load(line) | words::load(&tile[lane]);
          std::memcpy(&tile[lane], &both, sizeof both);
        }
        tile[lane].store(line);
      }
    }
    for (; k < depth_; ++k) {
      float* line = strip + std::int64_t{k} * lanes;
      if constexpr (New) std::fill_n(line, lanes, 0.0f);
      for (index_t i = 0; i < count; ++i) line[column + i] = rows[i][k];
    }
  }

  buffer<float, B> data_, norms_, residuals_;
  index_t          count_ = 0;
  index_t          depth_ = 0;
};

/// Steps [first, last) of the products of `Rows` rows with the columns of `Strips` strips, `depth` lanes of E each:
/// sums [Rows, panel_width] start at zero where `first` is 0, and go on from where they are else. Of floats, all steps
/// in turn are the canonical product where the target has FMA, and within sum_margin of it elsewhere.
template <cpu_backend B, class E, index_t Rows, index_t Strips>
void gram_tile(const float* const* rows, const float* panel, index_t depth, index_t first, index_t last,
               float* sums) noexcept {
  constexpr index_t             width = strip_width<B>, stride = panel_width<B>;
  const std::int64_t            strip = std::int64_t{depth} * width;
  product_tile<B, Rows, Strips> tile;
  tile.begin(
      [&](index_t i, index_t v) { return first == 0 ? vec<B>::zero() : vec<B>::load(sums + i * stride + v * width); });
  tile.template add<E>(first, last, rows, [&](index_t k, vec<B>(&column)[extent(Strips)]) {
#pragma GCC unroll 4
    for (index_t v = 0; v < Strips; ++v) column[v] = vec<B>::load(panel + std::int64_t{k} * width + v * strip);
  });
  tile.store(sums, stride);
}

/// gram_tile for `count` rows and `strips` strips, from 1 to what gram_tuning has.
template <cpu_backend B, class E, index_t Rows = gram_tuning<B>.rows, index_t Strips = gram_tuning<B>.strips>
void gram_tile_of(index_t count, index_t strips, const float* const* rows, const float* panel, index_t depth,
                  index_t first, index_t last, float* sums) noexcept {
  if constexpr (Strips > 1)
    if (strips < Strips)
      return gram_tile_of<B, E, Rows, Strips - 1>(count, strips, rows, panel, depth, first, last, sums);
  if constexpr (Rows > 1)
    if (count < Rows) return gram_tile_of<B, E, Rows - 1, Strips>(count, strips, rows, panel, depth, first, last, sums);
  gram_tile<B, E, Rows, Strips>(rows, panel, depth, first, last, sums);
}

/// Products of `count` rows with `strips` strips, [count, panel_width].
template <cpu_backend B, class E>
void multiply_rows(index_t count, index_t strips, const float* const* rows, const float* panel, index_t depth,
                   float* products) noexcept {
  constexpr index_t height = gram_tuning<B>.rows;
  const index_t     most = slab_depth<B>(count, depth), slabs = (depth + most - 1) / most;
  for (index_t slab = 0; slab < slabs; ++slab) {
    const auto first = static_cast<index_t>(std::int64_t{depth} * slab / slabs),
               last  = static_cast<index_t>(std::int64_t{depth} * (slab + 1) / slabs);
    for (index_t i = 0; i < count; i += height)
      gram_tile_of<B, E>(std::min(height, count - i), strips, rows + i, panel, depth, first, last,
                         products + i * panel_width<B>);
  }
}

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
