#pragma once
// What the rows of a leaf's members have in common: means, and how far keys spread around theirs.

#include <bit>
#include <cstdint>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The members of a leaf, in token order, as a list.
struct leaf_members {
  index_t        first, count;
  const index_t* next;  // [T]

  template <class Use>
  CASCADA_INLINE void for_each(const Use& use) const noexcept {
    index_t t = first;
    for (index_t left = count; left > 0; --left) {
      use(t);
      if (left > 1) t = next[t];
    }
  }
};

/// Of one leaf's keys or values at a time: row(t) of its members, in token order. Sums are float. Where a sum or a
/// square overflows, means and variances are made again in double: means of finite rows are finite, as those of queries
/// are (load_queries.hpp).
template <cpu_backend B>
class leaf_statistics {
 public:
  /// For rows of up to `dim` elements.
  void reserve(index_t dim) {
    const auto room = std::int64_t{whole_vectors<B>(dim)};
    for (buffer<float, B>* of_columns : {&first_, &sums_, &squares_, &means_}) of_columns->reserve(room);
    rounded_.reserve(room);
    bytes_.reserve(room + 4);
  }

  /// Turns to a leaf. `Spread`: variance() will be asked for as well.
  template <bool Spread, class Row>
  void take(const leaf_members& members, index_t dim, const Row& row) noexcept {
    const float    size  = static_cast<float>(members.count);
    constexpr auto block = held * width;
    index_t        c     = 0;
    for (; c + block <= dim; c += block) add_columns<held, Spread>(members, c, dim, row);
    for (; c + width <= dim; c += width) add_columns<1, Spread>(members, c, dim, row);
    if (c < dim) add_last_columns<Spread>(members, c, dim, row);
    hide();
    for (index_t k = 0; k < dim; k += width)
      (vec<B>::load(sums_.data() + k) / vec<B>::broadcast(size)).store(means_.data() + k);
    if (largest_bits(sums_.data(), dim) >= infinite)
      for (index_t k = 0; k < dim; ++k)
        if (!detail::is_finite(sums_[k])) means_[k] = static_cast<float>(mean_again(members, k, row));
  }

  /// [dim], zero up to a whole vector.
  CASCADA_INLINE const float* means() const noexcept { return means_.data(); }

  /// The means as bfloat16: what is finite stays so.
  const bfloat16* rounded_means(index_t dim) noexcept {
    for (index_t k = 0; k < dim; k += width) store_elements<B>(vec<B>::load(means_.data() + k), rounded_.data() + k);
    constexpr std::uint32_t rounds_to_infinity = 0x7f7f'8000;
    if (largest_bits(means_.data(), dim) >= rounds_to_infinity)
      for (index_t k = 0; k < dim; ++k)
        if (detail::is_finite(means_[k]) && (rounded_[k].bits & 0x7fffu) == infinite >> 16) --rounded_[k].bits;
    return rounded_.data();
  }

  /// The means as integers in units of `scale`, `excess` more, up to a whole lane of them: the
  /// largest is 63. The scale is NaN if one is; beside what is infinite, so is the scale, and the others are zero.
  const std::int8_t* byte_means(index_t dim, std::int8_t excess, float& scale) noexcept {
    constexpr float     most = 63, to_integer = 0x1.8p23f;  // so large that units are 1, and the lowest bits count them
    const std::uint32_t top   = largest_bits(means_.data(), dim);
    const float         size  = std::bit_cast<float>(top);
    constexpr auto      least = std::bit_cast<std::uint32_t>(0x1p-100f);
    scale                     = top > infinite    ? std::numeric_limits<float>::quiet_NaN()
                                : top == infinite ? std::numeric_limits<float>::infinity()
                                : top < least     ? 0.0f
                                                  : size / most;
    const float unit          = top < least ? 0.0f : most / size;
    for (index_t k = 0; k < dim; ++k) sums_[k] = top < infinite ? means_[k] * unit : sign_if_infinite(means_[k]);
    hide();  // or the product would be rounded together with the sum, where the target has FMA
    for (index_t k = 0; k < dim; ++k)
      bytes_[k] = static_cast<std::int8_t>(std::bit_cast<std::int32_t>(sums_[k] + to_integer) + excess);
    for (index_t k = dim; k % 4 != 0; ++k) bytes_[k] = excess;
    return bytes_.data();
  }

  /// The mean variance of elements [begin, end) of the rows that take<true>() was for; as far as floats go.
  template <class Row>
  float variance(const leaf_members& members, index_t begin, index_t end, const Row& row) const noexcept {
    if (members.count < 2) return 0;
    const float one    = 1 / static_cast<float>(members.count);
    const auto  spread = [&](auto squares, auto mean, auto first, auto share) {
      const auto shift = mean - first;
      return squares * share - shift * shift;
    };
    vec<B>  total = vec<B>::zero();
    index_t k     = begin;
    for (; k + width <= end; k += width)
      total = total + spread(vec<B>::load(squares_.data() + k), vec<B>::load(means_.data() + k),
                             vec<B>::load(first_.data() + k), vec<B>::broadcast(one));
    float sum = reduce_sum(total);
    for (; k < end; ++k) sum += spread(squares_[k], means_[k], first_[k], one);
    if (!detail::is_finite(sum)) return variance_again(members, begin, end, row);
    return sum > 0 ? sum / static_cast<float>(end - begin) : 0.0f;
  }

 private:
  static constexpr index_t       width = vec<B>::width;
  static constexpr index_t       held  = 4;  // vectors of columns: their sums, squares and first rows are in registers
  static constexpr std::uint32_t infinite = 0x7f80'0000;

  static float sign_if_infinite(float x) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    return bits == infinite ? 1.0f : bits == (infinite | 0x8000'0000u) ? -1.0f : 0.0f;
  }

  /// What is in memory may be anything from here on: see bits_of in finite.hpp.
  static void hide() noexcept { asm volatile("" : : : "memory"); }

  /// Sums of `Vectors` vectors of columns from `c`, and of the squares of the distances to the first row. Near to it,
  /// unlike squares of the rows, they lose no digits.
  template <index_t Vectors, bool Spread, class Row>
  CASCADA_INLINE void add_columns(const leaf_members& members, index_t c, index_t dim, const Row& row) noexcept {
    vec<B> first[extent(Vectors)], sums[extent(Vectors)], squares[extent(Vectors)];
    for (index_t v = 0; v < Vectors; ++v) {
      first[v] = load_lanes<B, float>(row(members.first), c + v * width, dim);
      sums[v] = squares[v] = vec<B>::zero();
    }
    index_t t = members.first;
    for (index_t left = members.count; left > 0; --left) {
      const auto own = row(t);
      if (left > 1) t = members.next[t];
      for (index_t v = 0; v < Vectors; ++v) {
        const auto x = load_lanes<B, float>(own, c + v * width, dim);
        sums[v]      = sums[v] + x;
        if constexpr (Spread) squares[v] = multiply_add(x - first[v], x - first[v], squares[v]);
      }
    }
    for (index_t v = 0; v < Vectors; ++v) {
      sums[v].store(sums_.data() + c + v * width);
      if constexpr (Spread) {
        first[v].store(first_.data() + c + v * width);
        squares[v].store(squares_.data() + c + v * width);
      }
    }
  }

  /// The same of columns [c, dim), fewer than a vector has. Sums are zero up to the vector's end.
  template <bool Spread, class Row>
  void add_last_columns(const leaf_members& members, index_t c, index_t dim, const Row& row) noexcept {
    vec<B>::zero().store(sums_.data() + c);
    for (; c < dim; ++c) {
      const float first   = rounded_element<B>(row(members.first), c);
      float       squares = 0;
      members.for_each([&](index_t t) {
        const float x = rounded_element<B>(row(t), c), distance = x - first;
        sums_[c] += x;
        squares += distance * distance;
      });
      if constexpr (Spread) first_[c] = first, squares_[c] = squares;
    }
  }

  /// The largest of `dim` elements by their bits without the sign, which order as sizes do.
  static std::uint32_t largest_bits(const float* of, index_t dim) noexcept {
    using words               = integers<B, std::uint32_t>;
    typename words::lanes top = {};
    for (index_t c = 0; c < dim; c += width) {
      const auto bits = words::load(of + c) & 0x7fff'ffffu;
      top             = bits > top ? bits : top;
    }
    std::uint32_t largest = 0;
    for (index_t lane = 0; lane < width; ++lane) largest = top[lane] > largest ? top[lane] : largest;
    return largest;
  }

  /// The mean of element c, whose sum overflows or is not finite.
  template <class Row>
  static double mean_again(const leaf_members& members, index_t c, const Row& row) noexcept {
    double sum = 0;
    members.for_each([&](index_t t) { sum += static_cast<double>(row(t)[c]); });
    return sum / members.count;
  }

  /// The mean variance of elements [begin, end), where squares overflow or are not finite.
  template <class Row>
  static float variance_again(const leaf_members& members, index_t begin, index_t end, const Row& row) noexcept {
    double sum = 0;
    for (index_t c = begin; c < end; ++c) {
      const double mean = mean_again(members, c, row);
      members.for_each([&](index_t t) {
        const double distance = static_cast<double>(row(t)[c]) - mean;
        sum += distance * distance / members.count;
      });
    }
    constexpr auto largest  = static_cast<double>(std::numeric_limits<float>::max());
    const double   variance = sum / (end - begin);
    return static_cast<float>(detail::from_zero_to(variance, largest) ? variance : largest);
  }

  buffer<float, B>       first_, sums_, squares_, means_;  // by column, on whole vectors
  buffer<bfloat16, B>    rounded_;
  buffer<std::int8_t, B> bytes_;
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
