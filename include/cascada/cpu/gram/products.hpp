#pragma once
// The ways to the products of a selection: the canonical ones, and cheaper estimates of them with proven bounds.
//
// Every way multiplies rows of `depth` 32-bit elements with panels of such rows: the tokens' own floats, their most
// energetic coordinates, or pairs of bfloat16. What is multiplied, and what may be concluded, is all that differs.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cascada/cpu/base/amx_product.hpp"
#include "cascada/cpu/base/float_environment.hpp"
#include "cascada/cpu/gram/panels.hpp"
#include "cascada/cpu/gram/rounded_rows.hpp"
#include "cascada/cpu/gram/sketch.hpp"
#include "cascada/cpu/gram/verdict.hpp"

namespace cascada::inline CASCADA_ABI::kernel::gram {

/// `full` is the tokens' own rows: canonical where the target has FMA.
enum class product_kind { full, sketch, bf16_vectors, bf16_tiles };

/// Tokens that have numbers at a time, by which their bounds are known; tokens of a batch, which have a Gram matrix of
/// their own. Rows are at hand for as many numbers, and behind them for a batch.
inline constexpr index_t numbered_tokens = 256, batch_tokens = 64, row_places = numbered_tokens + batch_tokens;

/// Products between rows of a batch's Gram matrix.
template <cpu_backend B>
inline constexpr std::int64_t gram_stride = (batch_tokens + strip_width<B> - 1) / strip_width<B> * strip_width<B>;

/// Memory that the kinds share; one is in use at a time. By lifetime, the longest first.
template <cpu_backend B>
struct product_workspace {
  // Of the walk.
  packed_rows<B>        known;  // the representatives so far
  sketch_coordinates<B> coordinates;

  // Of the tokens that have numbers, and of a batch behind them.
  buffer<float, B>  rows;  // [row_places, row_stride], where the tokens' own rows are not what is multiplied
  const float*      row[row_places];
  index_t           token[row_places];                                   // whose row it is
  product_bounds<B> bounds[numbered_tokens];                             // by the token's number
  float             norms[numbered_tokens], residuals[numbered_tokens];  // the same tokens as columns

  // Of a batch.
  packed_rows<B>   batch;  // its tokens
  buffer<float, B> gram;   // [batch_tokens, gram_stride]

  // Of a panel.
  buffer<float, B> sums;  // [row_places, panel_width] its products with the rows

  /// An odd number of cache lines, so that rows lie in all sets of the cache.
  CASCADA_INLINE static constexpr std::int64_t row_stride(index_t depth) noexcept {
    return ((std::int64_t{depth} + 15) / 16 | 1) * 16;
  }

  /// For `limit` columns of rows of d elements.
  void reserve(index_t limit, index_t d) {
    const index_t depth = std::max(d, lanes_of<B, bf16_pair>(d));
    known.reserve(limit, depth);
    batch.reserve(batch_tokens, depth);
    rows.reserve((row_places + tile_scope<B>::rows) * row_stride(depth));  // whole tiles are read
    sums.reserve((row_places + tile_scope<B>::rows) * panel_width<B>);
    gram.reserve(batch_tokens * gram_stride<B>);
    coordinates.reserve(d);
  }
};

/// Rows of tokens, and their products with panels.
template <product_kind Kind, row_scalar Scalar, cpu_backend B>
class products {
 public:
  static constexpr bool    rounded   = Kind == product_kind::bf16_vectors || Kind == product_kind::bf16_tiles;
  static constexpr bool    canonical = Kind == product_kind::full && B::has_fma;
  static constexpr index_t height    = Kind == product_kind::bf16_tiles ? 2 * tile_scope<B>::rows : gram_tuning<B>.rows;
  static constexpr index_t strips    = Kind == product_kind::bf16_tiles ? 2 : gram_tuning<B>.strips;  // of a panel

  /// What a thread needs around its calls of multiply().
  struct nothing {};
  using scope = std::conditional_t<Kind == product_kind::bf16_tiles, tile_scope<B>, nothing>;

  products(const gram_rows<Scalar>& rows, product_workspace<B>& memory, index_t depth) noexcept
      : rows_(rows), memory_(memory), depth_(depth) {
    memory_.known.clear(depth);
  }

  CASCADA_INLINE index_t depth() const noexcept { return depth_; }

  /// The representatives so far, as columns.
  CASCADA_INLINE packed_rows<B>& known() noexcept { return memory_.known; }
  CASCADA_INLINE const packed_rows<B>& known() const noexcept { return memory_.known; }
  /// The tokens of a batch, as columns, and room for their Gram matrix.
  CASCADA_INLINE packed_rows<B>& batch() noexcept { return memory_.batch; }
  CASCADA_INLINE float*          gram() noexcept { return memory_.gram.data(); }

  /// The token whose row is at a place.
  CASCADA_INLINE index_t token(index_t place) const noexcept { return memory_.token[place]; }

  /// Brings token i's row to `place`; what is known of it goes to its number.
  void load(index_t i, index_t place, index_t number) noexcept {
    const Scalar* row    = rows_.x.row(i);
    float*        copy   = row_at(place);
    memory_.row[place]   = copy;
    memory_.token[place] = i;
    if (!canonical && rows_.norms[i] > largest_estimated_norm) {
      std::fill_n(copy, depth_, 0.0f);
      set_no_bounds(i, number);
    } else if constexpr (Kind == product_kind::full) {
      if constexpr (std::same_as<Scalar, float>)
        if (rows_.x.stride % 512 != 0)  // else they would share few sets of the cache
          memory_.row[place] = row;
        else
          std::copy_n(row, depth_, copy);
      else
        for (index_t k = 0; k < depth_; ++k) copy[k] = to_float(row[k]);
      set_bounds(i, number, 0);
    } else if constexpr (Kind == product_kind::sketch) {
      set_bounds(i, number, memory_.coordinates.sketch(row, depth_, copy));
    } else {
      set_bounds(i, number, round_row<B>(row, rows_.x.cols, copy));
    }
  }

  /// Brings the row at a place to another, earlier or of the batch.
  CASCADA_INLINE void copy(index_t from, index_t to) noexcept {
    memory_.token[to] = memory_.token[from];
    if constexpr (Kind == product_kind::bf16_tiles) {
      float* target = row_at(to);
      std::memcpy(target, memory_.row[from], static_cast<std::size_t>(depth_) * sizeof(float));
      memory_.row[to] = target;
    } else {
      memory_.row[to] = memory_.row[from];
    }
  }

  /// Appends rows at `count` places, up to a batch of them, to columns; `numbers` are their tokens'.
  void append(packed_rows<B>& columns, const index_t* places, const index_t* numbers, index_t count) noexcept {
    const float* rows[batch_tokens]  = {};
    float        norms[batch_tokens] = {}, residuals[batch_tokens] = {};
    for (index_t i = 0; i < count; ++i) {
      rows[i]  = memory_.row[places[i]];
      norms[i] = memory_.norms[numbers[i]], residuals[i] = memory_.residuals[numbers[i]];
    }
    columns.append(rows, norms, residuals, count);
  }

  /// Products of the rows at `count` places from `first` on, to their sums, with a panel: `some` strips of columns from
  /// `strip` on. Whole tiles are written.
  void multiply(index_t first, index_t count, const packed_rows<B>& columns, index_t strip, index_t some) noexcept {
    using lane = std::conditional_t<Kind == product_kind::bf16_vectors, bf16_pair, float>;
    if constexpr (Kind == product_kind::bf16_tiles)
      for (index_t i = first; i < first + count; i += height)
        multiply_rounded(std::min(height, first + count - i), i, columns.strip(strip), some);
    else
      multiply_rows<B, lane>(count, some, memory_.row + first, columns.strip(strip), depth_, sums_at(first));
  }

  /// What multiply() found of the row at a place.
  CASCADA_INLINE const float* sums(index_t place) const noexcept {
    return memory_.sums.data() + std::int64_t{place} * panel_width<B>;
  }

  /// Columns that may cover the token of a number, and, where products are estimates, those that surely do.
  CASCADA_INLINE std::uint64_t possible(index_t number, const tile_row<B>& row, column_bounds columns) const noexcept {
    if constexpr (canonical) return row.reached(memory_.bounds[number].low, columns.norms);
    return row.possible(memory_.bounds[number], columns);
  }
  CASCADA_INLINE std::uint64_t sure(index_t number, const tile_row<B>& row, column_bounds columns) const noexcept {
    return row.sure(memory_.bounds[number], columns);
  }

 private:
  CASCADA_INLINE float* row_at(index_t place) noexcept {
    return memory_.rows.data() + place * memory_.row_stride(depth_);
  }
  CASCADA_INLINE float* sums_at(index_t place) noexcept {
    return memory_.sums.data() + std::int64_t{place} * panel_width<B>;
  }

  void multiply_rounded([[maybe_unused]] index_t count, [[maybe_unused]] index_t place,
                        [[maybe_unused]] const float* panel, [[maybe_unused]] index_t some) noexcept {
#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
    const index_t steps   = depth_ / tile_scope<B>::pairs;
    const auto    product = [&]<index_t RowTiles, index_t Columns> {
      multiply_tiles<B, RowTiles, Columns, false>(row_at(place), memory_.row_stride(depth_), panel, strip_width<B>,
                                                     steps, sums_at(place), panel_width<B>,
                                                     std::int64_t{depth_} * strip_width<B>);
    };
    if (count > tile_scope<B>::rows)
      some > 1 ? product.template operator()<2, 2>() : product.template operator()<2, 1>();
    else
      some > 1 ? product.template operator()<1, 2>() : product.template operator()<1, 1>();
#endif
  }

  /// Bounds of token i, which is estimated. `square`: of its sketch, or of what rounding took from it.
  ///
  /// Sketches: what is left of rows i and j has norms t_i and t_j, and their product is at most t_i t_j in size; t_i^2
  /// is n_i^2 less the square of the sketch, up to the margin of either.
  ///
  /// Rounded rows: b_i = x_i - e_i. |x_i.x_j - b_i.b_j| = |e_i.b_j + x_i.e_j| <= |e_i| |b_j| + |x_i| |e_j|
  /// <= |e_i| |x_j| + (|x_i| + |e_i|) |e_j|. Products of bfloat16 are exact in float, or below the normal range; sums
  /// are float, in an order of the hardware's own.
  void set_bounds(index_t i, index_t number, float square) noexcept {
    product_bounds<B>& bounds = memory_.bounds[number];
    const float        n = rows_.norms[i], scaled = rows_.scaled_norms[i], margin = rows_.margin;
    memory_.norms[number] = n, memory_.residuals[number] = 0;
    if constexpr (canonical) {
      bounds = {scaled, scaled, 0};
      return;
    }
    const auto root = [](double x) { return static_cast<float>(std::sqrt(x) * 1.001); };  // generous: it was rounded
    float      lost = 0, residual = 0;
    if constexpr (Kind == product_kind::sketch) {
      const double all = static_cast<double>(n) * static_cast<double>(n);
      residual         = memory_.residuals[number] =
          root(std::max(all * (1 + 3 * static_cast<double>(margin)) - static_cast<double>(square), 0.0));
    } else if constexpr (rounded) {
      // What squares lose below the normal range is added.
      lost     = root(static_cast<double>(square) * (1 + static_cast<double>(margin)) + rows_.x.cols * 0x1p-149);
      lost     = lost * (1 + margin);
      residual = (n + lost) * (1 + margin), memory_.residuals[number] = lost;
    }
    bounds = {scaled - margin * n - lost, scaled + margin * n + lost, residual};
  }

  /// Bounds of a token that is not estimated, whose row is taken for zero: a zero row may cover nothing, and nothing
  /// it; of the others nothing is known.
  void set_no_bounds(index_t i, index_t number) noexcept {
    const float norm          = rows_.norms[i] == zero_row_norm ? 1.0f : 0.0f;
    memory_.bounds[number]    = {norm, norm, 0};
    memory_.norms[number]     = norm;
    memory_.residuals[number] = 0;
  }

  const gram_rows<Scalar>& rows_;
  product_workspace<B>&    memory_;
  index_t                  depth_;
};

/// Packs the `count` tokens of a list (null: the first ones) into columns. Takes the numbers of a batch for them, and
/// their places: none may be in use.
template <class Products, cpu_backend B>
void append_tokens(Products& way, packed_rows<B>& columns, const index_t* list, index_t count) noexcept {
  index_t places[batch_tokens];
  for (index_t first = 0; first < count; first += batch_tokens) {
    const index_t some = std::min(+batch_tokens, count - first);
    for (index_t c = 0; c < some; ++c) way.load(list ? list[first + c] : first + c, c, places[c] = c);
    way.append(columns, places, places, some);
  }
}

/// Products of the rows at places [place, place + count) with columns, in groups of Products::height, of which one
/// whose last row is `last` - 1 needs the strips before reach(last). use(i, strip, strips) sees those of row i, as they
/// come.
template <class Products, cpu_backend B, executor Executor, class Reach, class Use>
void multiply_groups(Products& way, const Executor& where, const packed_rows<B>& columns, index_t place, index_t count,
                     const Reach& reach, const Use& use) {
  constexpr index_t height = Products::height;
  parallel_for<B>(where, (count + height - 1) / height, [&](index_t group) {
    [[maybe_unused]] const typename Products::scope on;
    const index_t first = group * height, last = std::min(count, first + height), end = reach(last);
    for (index_t strip = 0, strips; strip < end; strip += strips) {
      strips = next_strips(Products::strips, end - strip);
      way.multiply(place + first, last - first, columns, strip, strips);
      for (index_t i = first; i < last; ++i) use(i, strip, strips);
    }
  });
}

/// The same at the first `count` places, of which a group needs reach(last) columns: the row at `place` gets its own,
/// up to `cols`, at line(place).
template <class Products, cpu_backend B, executor Executor, class Reach, class Line>
void multiply_all(Products& way, const Executor& where, const packed_rows<B>& columns, index_t count, std::int64_t cols,
                  const Reach& reach, const Line& line) {
  constexpr index_t width = strip_width<B>;
  multiply_groups(
      way, where, columns, 0, count, [&](index_t last) { return (reach(last) + width - 1) / width; },
      [&](index_t i, index_t strip, index_t strips) {
        const std::int64_t column = std::int64_t{strip} * width;
        std::copy_n(way.sums(i), std::min<std::int64_t>(strips * width, cols - column), line(i) + column);
      });
}

template <row_scalar Scalar, cpu_backend B>
using full_products = products<product_kind::full, Scalar, B>;

}  // namespace cascada::inline CASCADA_ABI::kernel::gram
