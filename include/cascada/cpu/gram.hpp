#pragma once
// Inner products of token rows, and the one verdict that every path, block shape and thread count agrees on.
//
// The product of a pair is the chain s = fma(x_i[k], x_j[k], s), k ascending, in float. A vector lane that holds one
// accumulator per pair and walks k in order is that chain bit for bit, so tiles of any shape agree. On a target without
// FMA, tiles round twice: they decide what lies outside a margin, and the chain decides the rest.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/buffer.hpp"
#include "cascada/cpu/simd.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

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
inline constexpr index_t panel_width = gram_tuning<B>.vectors * vec<B>::width;

/// Hides a value's origin from the compiler, so that -ffast-math cannot regroup (tau n_i) n_j.
template <cpu_backend B>
CASCADA_INLINE float opaque(float value) noexcept {
  asm("" : "+m"(value));
  return value;
}

/// `width` elements of a row as floats.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE vec<B> load_row(const Scalar* from) noexcept {
  if constexpr (std::same_as<Scalar, float>) {
    return vec<B>::load(from);
  } else {
    float widened[vec<B>::width];
    for (index_t lane = 0; lane < vec<B>::width; ++lane) widened[lane] = to_float(from[lane]);
    return vec<B>::load(widened);
  }
}

/// Pairs whose products are taken side by side, a pair to a lane.
template <cpu_backend B>
inline constexpr index_t pair_lanes = vec<B>::width;

/// The canonical products of pair_lanes pairs of rows. Squares of elements are transposed, so that a lane walks along
/// its pair; a chain alone would wait for every sum.
template <cpu_backend B, row_scalar Scalar>
void pair_products(const Scalar* const* a, const Scalar* const* b, index_t cols, float* products) noexcept {
  constexpr index_t lanes = pair_lanes<B>;
  auto              sum   = vec<B>::zero();
  index_t           k     = 0;
  for (; B::has_fma && k + lanes <= cols; k += lanes) {
    vec<B> left[lanes], right[lanes];
    for (index_t lane = 0; lane < lanes; ++lane) left[lane] = load_row<B>(a[lane] + k);
    transpose(left);
    if (a != b) {
      for (index_t lane = 0; lane < lanes; ++lane) right[lane] = load_row<B>(b[lane] + k);
      transpose(right);
    }
    for (index_t step = 0; step < lanes; ++step) sum = multiply_add(left[step], (a == b ? left : right)[step], sum);
  }
  sum.store(products);
  for (index_t lane = 0; lane < lanes; ++lane)
    for (index_t rest = k; rest < cols; ++rest)
      products[lane] = std::fma(to_float(a[lane][rest]), to_float(b[lane][rest]), products[lane]);
}

/// The canonical product of one pair.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE float pair_product(const Scalar* a, const Scalar* b, index_t cols) noexcept {
  float sum = 0;
  for (index_t k = 0; k < cols; ++k) sum = std::fma(to_float(a[k]), to_float(b[k]), sum);
  return sum;
}

/// Norm of a row whose product with itself is `square`, which is finite: the largest float with norm^2 <= square, so that a row covers
/// its duplicates even at tau = 1. In double the square of a float is exact, so neither the accuracy of sqrt nor
/// -ffast-math matters.
///
/// A zero row (square < 2^-60) gets the largest float: its product with any row is below 2^-29 times the other's norm,
/// and tau times the largest float is at least 2^-21, so it covers nothing and nothing covers it.
template <cpu_backend B>
CASCADA_INLINE float norm_of(float square) noexcept {
  if (square < 0x1p-60f) return std::numeric_limits<float>::max();
  const auto fits = [&](float norm) { return double{norm} * double{norm} <= double{square}; };
  const auto step = [](float norm, int ulps) { return std::bit_cast<float>(std::bit_cast<int>(norm) + ulps); };
  auto       norm = static_cast<float>(std::sqrt(double{square}));
  while (!fits(norm)) norm = step(norm, -1);
  while (fits(step(norm, 1))) norm = step(norm, 1);
  return norm;
}

/// False for NaN and infinity, by bits: -ffast-math deletes std::isfinite.
template <cpu_backend B>
CASCADA_INLINE bool is_finite(float value) noexcept {
  return (std::bit_cast<std::uint32_t>(value) & 0x7f80'0000u) != 0x7f80'0000u;
}

/// The verdict: a token covers a later one iff their product is positive and at least (tau n_i) n_j.
template <cpu_backend B>
CASCADA_INLINE bool covers(float product, float scaled_norm, float norm) noexcept {
  return product > 0 && product >= scaled_norm * norm;
}

/// Whether product_a / norm_a > product_b / norm_b. Exact: in double, the product of two floats is not rounded.
template <cpu_backend B>
CASCADA_INLINE bool nearer(float product_a, float norm_a, float product_b, float norm_b) noexcept {
  return static_cast<double>(product_a) * static_cast<double>(norm_b) >
         static_cast<double>(product_b) * static_cast<double>(norm_a);
}

/// How far a tile's product may lie from the canonical one, in units of n_i n_j.
///
/// With u = 2^-24 and S = sum |x_i[k] x_j[k]| <= |x_i| |x_j|, the chain lies within d u S of the exact product and
/// multiply-then-add within (d + 1) u S, to first order; |x_i| exceeds n_i by a factor of at most 1 + (d + 2) u / 2. The
/// comparison adds a few u. Together below (2 d + 8) u; twice that covers the higher orders while d < 2^20, and
/// products so small that they round to subnormals, because norms are at least 2^-30. At d = 2^20 the margin exceeds
/// 1/4 and the verdict is left to the chain.
template <cpu_backend B>
CASCADA_INLINE float tile_margin(index_t cols) noexcept {
  if (B::has_fma) return 0;
  return cols < (1 << 20) ? static_cast<float>(cols + 4) * 0x1p-22f : std::numeric_limits<float>::max();
}

/// Token rows with their norms n_i and scaled norms tau n_i, all [T].
template <row_scalar Scalar>
struct gram_rows {
  matrix_view<const Scalar> x            = {};
  const float*              norms        = nullptr;
  const float*              scaled_norms = nullptr;
  float                     margin       = 0;  // of tiles; 0: their products are canonical
};

/// A tile's verdict on token i and the earlier token j. Where it needs the canonical product (inside the margin, or to
/// compare cosines: `exactly`), `product` becomes that.
template <cpu_backend B, row_scalar Scalar>
CASCADA_INLINE bool tile_covers(const gram_rows<Scalar>& rows, index_t i, index_t j, bool exactly,
                                float& product) noexcept {
  if constexpr (!B::has_fma) {
    const float bound = rows.scaled_norms[i] * rows.norms[j], slack = rows.margin * rows.norms[i] * rows.norms[j];
    if (product < bound - slack) return false;
    if (!exactly && product > bound + slack) return true;  // and so is positive
    product = pair_product<B>(rows.x.row(i), rows.x.row(j), rows.x.cols);
  }
  return covers<B>(product, rows.scaled_norms[i], rows.norms[j]);
}

/// Norms of rows [begin, end). False if one has NaN or Inf, or its square overflows: each of them shows in the square.
template <cpu_backend B, row_scalar Scalar>
bool compute_norms(matrix_view<const Scalar> x, float tau, index_t begin, index_t end, float* norms,
                   float* scaled_norms) noexcept {
  constexpr index_t lanes = pair_lanes<B>;
  for (index_t first = begin; first < end; first += lanes) {
    const Scalar* rows[lanes];
    float         squares[lanes];
    for (index_t lane = 0; lane < lanes; ++lane) rows[lane] = x.row(first + lane < end ? first + lane : end - 1);
    pair_products<B>(rows, rows, x.cols, squares);
    for (index_t i = first; i < end && i < first + lanes; ++i) {
      const float square = squares[i - first];
      if (!is_finite<B>(square)) return false;
      norms[i]        = norm_of<B>(square);
      scaled_norms[i] = opaque<B>(tau * norms[i]);
    }
  }
  return true;
}

/// Rows packed for tiles: panels [d, panel_width], k-major, in the order they were appended. Unused columns are zero and
/// have the largest norm: they cover nothing.
template <cpu_backend B>
class packed_rows {
 public:
  void reserve(index_t rows, index_t cols) {
    const std::int64_t panels = (std::int64_t{rows} + width - 1) / width;
    data_.reserve(panels * width * cols);
    norms_.reserve(panels * width);
  }

  void clear(index_t cols) noexcept { count_ = 0, cols_ = cols; }

  /// Packs rows. A square of width x width elements is transposed in registers.
  template <row_scalar Scalar>
  void append(const Scalar* const* rows, const float* norms, index_t count) noexcept {
    for (index_t i = 0; i < count;) {
      const index_t column = open_column();
      const bool    square = column % lanes == 0 && count - i >= lanes;
      index_t       k      = 0;
      for (; square && k + lanes <= cols_; k += lanes) {
        vec<B> tile[lanes];
        for (index_t lane = 0; lane < lanes; ++lane) tile[lane] = load_row<B>(rows[i + lane] + k);
        transpose(tile);
        for (index_t lane = 0; lane < lanes; ++lane) tile[lane].store(last_panel() + (k + lane) * width + column);
      }
      const index_t taken = square ? lanes : 1;
      for (index_t lane = 0; lane < taken; ++lane)
        for (index_t rest = k; rest < cols_; ++rest)
          last_panel()[rest * width + column + lane] = to_float(rows[i + lane][rest]);
      for (index_t lane = 0; lane < taken; ++lane) norms_[count_++] = norms[i + lane];
      i += taken;
    }
  }

  /// Copies columns of another packing.
  void append(const packed_rows& from, const index_t* columns, index_t count) noexcept {
    for (index_t i = 0; i < count;) {
      const index_t column = open_column();
      const index_t taken  = std::min(count - i, width - column);
      const float*  source[width];
      for (index_t c = 0; c < taken; ++c) source[c] = from.panel(columns[i + c] / width) + columns[i + c] % width;
      float* target = last_panel() + column;
      for (std::int64_t k = 0; k < cols_; ++k)
        for (index_t c = 0; c < taken; ++c) target[k * width + c] = source[c][k * width];
      for (index_t c = 0; c < taken; ++c) norms_[count_++] = from.norm(columns[i + c]);
      i += taken;
    }
  }

  CASCADA_INLINE index_t      count() const noexcept { return count_; }
  CASCADA_INLINE const float* panel(index_t p) const noexcept { return data_.data() + offset(p); }
  CASCADA_INLINE const float* norms(index_t p) const noexcept { return norms_.data() + std::int64_t{p} * width; }
  CASCADA_INLINE float        norm(index_t i) const noexcept { return norms_[i]; }

 private:
  static constexpr index_t width = panel_width<B>, lanes = vec<B>::width;

  CASCADA_INLINE float* last_panel() noexcept { return data_.data() + offset(count_ / width); }

  /// The next free column of the last panel; a new panel is cleared first.
  index_t open_column() noexcept {
    if (count_ % width == 0) {
      std::memset(last_panel(), 0, static_cast<std::size_t>(cols_) * width * sizeof(float));
      std::fill_n(norms_.data() + count_, width, std::numeric_limits<float>::max());
    }
    return count_ % width;
  }

  CASCADA_INLINE std::int64_t offset(index_t p) const noexcept { return std::int64_t{p} * width * cols_; }

  buffer<float, B> data_;
  buffer<float, B> norms_;
  index_t          count_ = 0;
  index_t          cols_  = 0;
};

/// One row of a tile: its products with the columns of a panel, still in registers.
template <cpu_backend B>
struct tile_row {
  vec<B> sum[gram_tuning<B>.vectors];

  CASCADA_INLINE void store(float* products) const noexcept {
    for (index_t v = 0; v < gram_tuning<B>.vectors; ++v) sum[v].store(products + v * vec<B>::width);
  }

  /// Whether a column may cover the row: false is certain, true wants the verdict on each column. `least` is tau n_i
  /// less the margin (a product of zero is not told apart from a threshold that underflowed to zero).
  CASCADA_INLINE bool may_be_covered(float least, const float* norms) const noexcept {
    const auto scale = vec<B>::broadcast(least);
    vec<B>     hits  = less_equal(scale * vec<B>::load(norms), sum[0]);
    for (index_t v = 1; v < gram_tuning<B>.vectors; ++v)
      hits = either(hits, less_equal(scale * vec<B>::load(norms + v * vec<B>::width), sum[v]));
    return any(hits);
  }
};

/// Products of Rows rows with the columns of a panel [d, panel_width]: the canonical chain where the target has FMA, within
/// tile_margin of it elsewhere. `use(i, tile_row)` gets them row by row.
template <cpu_backend B, index_t Rows, row_scalar Scalar, class Use>
CASCADA_INLINE void gram_tile(const Scalar* const* rows, const float* panel, index_t cols, Use&& use) noexcept {
  constexpr index_t vectors = gram_tuning<B>.vectors;
  tile_row<B>       tile[Rows];
#pragma GCC unroll 8
  for (index_t i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (index_t v = 0; v < vectors; ++v) tile[i].sum[v] = vec<B>::zero();
  for (index_t k = 0; k < cols; ++k, panel += panel_width<B>) {
    vec<B> column[vectors];
#pragma GCC unroll 4
    for (index_t v = 0; v < vectors; ++v) column[v] = vec<B>::load(panel + v * vec<B>::width);
#pragma GCC unroll 8
    for (index_t i = 0; i < Rows; ++i) {
      const auto element = vec<B>::broadcast(to_float(rows[i][k]));
#pragma GCC unroll 4
      for (index_t v = 0; v < vectors; ++v) tile[i].sum[v] = multiply_add(element, column[v], tile[i].sum[v]);
    }
  }
#pragma GCC unroll 8
  for (index_t i = 0; i < Rows; ++i) use(i, tile[i]);
}

/// gram_tile for `count` rows, 1 to gram_tuning.rows.
template <cpu_backend B, row_scalar Scalar, index_t Rows = gram_tuning<B>.rows, class Use>
CASCADA_INLINE void gram_tile_of(index_t count, const Scalar* const* rows, const float* panel, index_t cols,
                                 Use&& use) noexcept {
  if constexpr (Rows > 1)
    if (count < Rows) return gram_tile_of<B, Scalar, Rows - 1>(count, rows, panel, cols, use);
  gram_tile<B, Rows>(rows, panel, cols, use);
}

}  // namespace cascada::kernel
