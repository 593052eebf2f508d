#pragma once
// Leaves: a few tokens of one chain, with what stands for them: count, mean key, mean value, variances of the keys.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Shapes of the leaves of a KV head.
struct leaf_shape {
  index_t key_dim = 0, value_dim = 0;
  index_t size    = std::numeric_limits<index_t>::max();  // tokens of a leaf at most
  index_t moments = 0;                                    // groups of key dimensions, 0 to key_dim
  index_t sinks   = 0;                                    // first tokens, which belong to no leaf
  bool    rounded = false;                                // means are bfloat16, whatever E is

  /// Where group g of the key dimensions begins.
  CASCADA_INLINE index_t group_edge(index_t g) const noexcept {
    return static_cast<index_t>(std::int64_t{g} * key_dim / moments);
  }
};

/// What a call needs to sum up a leaf at a time.
template <cpu_backend B>
struct leaf_scratch {
  buffer<float, B>   sums, squares, means;  // of the leaf at hand, on whole vectors
  buffer<index_t, B> touched;               // [leaves]: those that an extension gave members

  void reserve(index_t tokens, const leaf_shape& shape) {
    const auto key   = std::int64_t{whole_vectors<B>(shape.key_dim)},
               value = std::int64_t{whole_vectors<B>(shape.value_dim)};
    for (buffer<float, B>* of_one : {&sums, &squares, &means}) of_one->reserve(key > value ? key : value);
    touched.reserve(tokens);
  }
};

/// The leaves of one KV head over a growing prefix of the tokens, numbered by their first tokens. A leaf that gets
/// members is summed anew, in token order, from the rows of all of them: it depends on its members alone, not on how
/// the prefix grew, and no sums are kept, which would be more than half of the memory.
///
/// Means are in lanes of E, or, rounded, in pairs. Sums are float. Where that of a leaf's keys, values or squares
/// overflows, its means and variances are made again from the members, in double: means of finite rows are finite.
template <cpu_backend B, class E = float>
class leaf_summaries {
 public:
  /// Room for `tokens` tokens in as many leaves. Forgets those there are.
  void reserve(index_t tokens, const leaf_shape& shape) {
    count_ = tokens_ = chains_ = begun_ = 0;
    make_room(tokens, shape);
  }

  /// For `tokens` tokens in as many chains; the leaves stay, also if memory runs out.
  void grow(index_t tokens) {
    make_room(tokens, shape_);
    for (; chains_ < tokens; ++chains_) growing_[chains_] = none;
  }

  /// No leaves, no tokens, and `chains` chains without any.
  void clear(const leaf_shape& shape, index_t chains) noexcept {
    shape_     = shape;
    key_lanes_ = key_lanes(shape), value_stride_ = whole_vectors<B>(shape.value_dim);
    count_ = begun_ = 0;
    tokens_         = shape.sinks;
    for (chains_ = 0; chains_ < chains; ++chains_) growing_[chains_] = none;
  }

  /// Adds tokens [tokens(), end): token t, a member of chain chains[t], has the rows key(t) and value(t). O((end -
  /// tokens() + members of the leaves that they join) d).
  template <class Key, class Value>
  void extend(const index_t* chains, index_t end, const Key& key, const Value& value,
              leaf_scratch<B>& scratch) noexcept {
    const index_t begin   = tokens_;
    index_t       touched = 0;
    for (; tokens_ < end; ++tokens_) {
      const index_t t = tokens_, j = leaf_of(chains[t]);
      if (counts_[j] == 0 || last_[j] < begin) scratch.touched[touched++] = j;
      append(j, t);
    }
    for (index_t i = 0; i < touched; ++i) update(scratch.touched[i], key, value, scratch);
  }

  /// Memory that the leaves use.
  std::size_t bytes() const noexcept {
    const std::int64_t a_leaf = key_lanes_ + value_stride_ / elements() + shape_.moments + 2 + 3;
    return static_cast<std::size_t>(count_ * a_leaf + std::int64_t{tokens_ - shape_.sinks} + begun_) * sizeof(float);
  }

  CASCADA_INLINE const leaf_shape& shape() const noexcept { return shape_; }
  CASCADA_INLINE index_t           count() const noexcept { return count_; }
  CASCADA_INLINE index_t           tokens() const noexcept { return tokens_; }
  CASCADA_INLINE index_t           size(index_t leaf) const noexcept { return counts_[leaf]; }

  /// How many leaves there were when their tokens ended before `end`.
  index_t count_before(index_t end) const noexcept {
    index_t count = count_;
    while (count > 0 && first_[count - 1] >= end) --count;
    return count;
  }

  /// Writes the tokens of leaves, ascending, one leaf after the other, and returns how many. The lists are walked side
  /// by side, so that they wait for memory together.
  index_t list(const index_t* leaves, index_t count, index_t* tokens) const noexcept {
    constexpr index_t together = 16;  // about the misses that a core has under way
    index_t           all      = 0;
    for (index_t begin = 0; begin < count; begin += together) {
      const index_t some = count - begin < together ? count - begin : together;
      index_t       at[together], to[together], longest = 0;
      for (index_t i = 0; i < some; ++i) {
        const index_t leaf = leaves[begin + i], size = counts_[leaf];
        at[i] = first_[leaf], to[i] = all, all += size;
        longest = size > longest ? size : longest;
      }
      for (index_t m = 0; m < longest; ++m)
        for (index_t i = 0; i < some; ++i)
          if (m < counts_[leaves[begin + i]]) {
            tokens[to[i] + m] = at[i];
            at[i]             = next_[at[i]];
          }
    }
    return all;
  }

  /// Up to block_keys leaves from `first`, a multiple of panel_keys: mean keys, mean values, log2 of the counts as
  /// bias. Beyond them, up to a whole block, keys are zero; so are values in pairs.
  CASCADA_INLINE key_block block(index_t first) const noexcept {
    constexpr index_t step  = block_keys<B, E>;
    const index_t     count = count_ - first < step ? count_ - first : step;
    return {.keys    = keys_.data() + std::int64_t{first} * key_lanes_,
            .values  = values_.data() + std::int64_t{first / elements()} * value_stride_,
            .bias    = log_counts_.data() + first,
            .count   = count,
            .seen    = count,
            .rounded = std::same_as<E, float> && shape_.rounded};
  }

  /// Group g's variances of a vector of leaves from `first`.
  CASCADA_INLINE vec<B> variances(index_t group, index_t first) const noexcept {
    return vec<B>::load(variances_.data() + panel_offset<B>(first, shape_.moments) + group * panel_keys<B>);
  }
  CASCADA_INLINE const float* log_counts() const noexcept { return log_counts_.data(); }
  /// 1 for leaves of several tokens, 0 for those of one: lanes, in whole blocks.
  CASCADA_INLINE const float* many() const noexcept { return many_.data(); }

 private:
  static constexpr index_t width = vec<B>::width, none = -1;

  static constexpr index_t elements_of(const leaf_shape& shape) noexcept {
    return shape.rounded ? 2 : elements_per_lane<E>;
  }
  /// Means in a lane.
  CASCADA_INLINE index_t elements() const noexcept { return elements_of(shape_); }
  static index_t         key_lanes(const leaf_shape& shape) noexcept {
    const index_t lanes = lanes_of<B, E>(shape.key_dim);
    return shape.rounded ? stored_lanes<E, bf16_pair>(lanes) : lanes;
  }

  void make_room(index_t tokens, const leaf_shape& shape) {
    const std::int64_t room = whole_panels<B>(tokens), used = whole_panels<B>(count_);
    const auto         lanes  = std::int64_t{key_lanes(shape)};
    const auto         values = std::int64_t{whole_vectors<B>(shape.value_dim)};
    keys_.grow(room * lanes, used * lanes);
    values_.grow(room / elements_of(shape) * values, used / elements_of(shape) * values);
    variances_.grow(room * shape.moments, used * shape.moments);
    for (buffer<float, B>* of_leaves : {&log_counts_, &many_}) of_leaves->grow(room, used);
    for (buffer<index_t, B>* of_leaves : {&counts_, &first_, &last_}) of_leaves->grow(room, used);
    next_.grow(tokens, tokens_);
    growing_.grow(tokens, chains_);
  }

  /// The leaf that the next token of a chain goes to.
  index_t leaf_of(index_t chain) noexcept {
    begun_        = chain < begun_ ? begun_ : chain + 1;
    index_t& leaf = growing_[chain];
    if (leaf == none || counts_[leaf] == shape_.size) leaf = begin_leaf();
    return leaf;
  }

  index_t begin_leaf() noexcept {
    const index_t j = count_++;
    if (j % panel_keys<B> == 0) {  // what is not in use yet stays zero
      constexpr index_t block = panel_keys<B>;
      clear(keys_.data() + std::int64_t{j} * key_lanes_, std::int64_t{key_lanes_} * block);
      clear(values_.data() + std::int64_t{j / elements()} * value_stride_,
            std::int64_t{value_stride_} * (block / elements()));
      clear(variances_.data() + std::int64_t{j} * shape_.moments, std::int64_t{shape_.moments} * block);
      clear(log_counts_.data() + j, block);
      clear(many_.data() + j / elements_per_lane<E>, block / elements_per_lane<E>);
      std::memset(counts_.data() + j, 0, panel_keys<B> * sizeof(index_t));
    }
    return j;
  }

  static void clear(float* from, std::int64_t count) noexcept {
    if (count > 0) std::memset(from, 0, static_cast<std::size_t>(count) * sizeof(float));
  }

  void append(index_t j, index_t t) noexcept {
    (counts_[j] == 0 ? first_[j] : next_[last_[j]]) = t;
    last_[j]                                        = t;
    ++counts_[j];
  }

  /// sums [dim, on whole vectors] of the rows row(t) of a leaf's members, in token order.
  template <class Row>
  void sum_members(index_t j, index_t dim, const Row& row, float* sums) const noexcept {
    index_t t = first_[j];
    clear(sums, whole_vectors<B>(dim));
    for (index_t left = counts_[j]; left > 0; --left, t = next_[t]) {
      if (left > 1) prefetch_row(row(next_[t]), dim);
      const auto own = row(t);
      index_t    c   = 0;
      for (; c + width <= dim; c += width) (vec<B>::load(sums + c) + load_lanes<B, float>(own, c, dim)).store(sums + c);
      for (; c < dim; ++c) sums[c] += rounded_element<B>(own, c);
    }
    hide();
  }

  /// squares [key_dim, on whole vectors]: sums of the squares of the members' distances to the first key. Near to it,
  /// unlike squares of the keys, they lose no digits.
  template <class Key>
  void sum_squares(index_t j, const Key& key, float* squares) const noexcept {
    clear(squares, whole_vectors<B>(shape_.key_dim));
    const auto first = key(first_[j]);
    for_each_member(j, [&](index_t t) {
      if (t != first_[j]) add_squares(key(t), first, squares);
    });
    hide();
  }

  /// What is in memory may be anything from here on: see bits_of in finite.hpp.
  static void hide() noexcept { asm volatile("" : : : "memory"); }

  template <class Row>
  void add_squares(const Row& row, const Row& first, float* squares) const noexcept {
    index_t c = 0;
    for (; c + width <= shape_.key_dim; c += width) {
      const auto distance =
          load_lanes<B, float>(row, c, shape_.key_dim) - load_lanes<B, float>(first, c, shape_.key_dim);
      multiply_add(distance, distance, vec<B>::load(squares + c)).store(squares + c);
    }
    for (; c < shape_.key_dim; ++c) {
      const float distance = rounded_element<B>(row, c) - rounded_element<B>(first, c);
      squares[c] += distance * distance;
    }
  }

  /// What stands for a leaf, anew from its members.
  template <class Key, class Value>
  void update(index_t j, const Key& key, const Value& value, leaf_scratch<B>& scratch) noexcept {
    const float* const means = scratch.means.data();
    mean(j, shape_.key_dim, key, scratch);
    float* column = keys_.data() + panel_offset<B>(j, key_lanes_);
    if (elements() == 1)
      for (index_t k = 0; k < shape_.key_dim; ++k) column[std::int64_t{k} * panel_keys<B>] = means[k];
    else
      for (index_t k = 0; k < shape_.key_dim; ++k)
        set_element(column, 2 * (std::int64_t{k / 2} * panel_keys<B>)+k % 2, rounded(means[k]));
    if (shape_.moments > 0) sum_squares(j, key, scratch.squares.data());
    for (index_t g = 0; g < shape_.moments; ++g) set_variance(j, g, key, scratch);

    mean(j, shape_.value_dim, value, scratch);
    float* row = values_.data() + std::int64_t{j / elements()} * value_stride_;
    if (elements() == 1)
      for (index_t c = 0; c < value_stride_; c += width) vec<B>::load(means + c).store(row + c);
    else
      for (index_t c = 0; c < shape_.value_dim; ++c) set_element(row, 2 * std::int64_t{c} + j % 2, rounded(means[c]));
    log_counts_[j]      = std::log2(static_cast<float>(counts_[j]));
    const float several = counts_[j] > 1 ? 1.0f : 0.0f;
    if constexpr (std::same_as<E, float>)
      many_[j] = several;
    else
      set_element(many_.data(), j, from_float<bfloat16>(several));
  }

  /// A mean as bfloat16: what is finite stays so.
  static bfloat16 rounded(float mean) noexcept {
    constexpr std::uint16_t infinite = 0x7f80;
    bfloat16                nearest  = from_float<bfloat16>(mean);
    if (detail::is_finite(mean) && (nearest.bits & 0x7fffu) == infinite) --nearest.bits;
    return nearest;
  }

  /// Means of the members' rows row(t), zero from dim to a whole vector.
  template <class Row>
  void mean(index_t j, index_t dim, const Row& row, leaf_scratch<B>& scratch) const noexcept {
    float* const sums  = scratch.sums.data();
    float* const means = scratch.means.data();
    sum_members(j, dim, row, sums);
    using words                = integers<B, std::uint32_t>;
    typename words::lanes top  = {};  // without signs, bits order as sizes do
    const auto            size = vec<B>::broadcast(static_cast<float>(counts_[j]));
    for (index_t c = 0; c < dim; c += width) {
      const auto bits = words::load(sums + c) & 0x7fff'ffffu;
      top             = bits > top ? bits : top;
      (vec<B>::load(sums + c) / size).store(means + c);
    }
    bool finite = true;
    for (index_t lane = 0; lane < width; ++lane) finite &= top[lane] < 0x7f80'0000u;
    for (index_t c = 0; !finite && c < dim; ++c)
      if (!detail::is_finite(sums[c])) means[c] = static_cast<float>(mean_again(j, c, row));
  }

  /// The mean of element c of a leaf's rows, whose sum overflows or is not finite.
  template <class Row>
  double mean_again(index_t j, index_t c, const Row& row) const noexcept {
    double sum = 0;
    for_each_member(j, [&](index_t t) { sum += static_cast<double>(row(t)[c]); });
    return sum / counts_[j];
  }

  /// The mean variance of elements [begin, end), where squares overflow or are not finite; as far as floats go.
  template <class Row>
  float variance_again(index_t j, index_t begin, index_t end, const Row& row) const noexcept {
    double sum = 0;
    for (index_t c = begin; c < end; ++c) {
      const double mean = mean_again(j, c, row);
      for_each_member(j, [&](index_t t) {
        const double distance = static_cast<double>(row(t)[c]) - mean;
        sum += distance * distance / counts_[j];
      });
    }
    constexpr auto largest  = static_cast<double>(std::numeric_limits<float>::max());
    const double   variance = sum / (end - begin);
    return static_cast<float>(detail::from_zero_to(variance, largest) ? variance : largest);
  }

  template <class Use>
  void for_each_member(index_t j, const Use& use) const noexcept {
    index_t t = first_[j];
    for (index_t i = 0; i < counts_[j]; ++i, t = next_[t]) use(t);
  }

  /// Needs the mean key.
  template <class Row>
  void set_variance(index_t j, index_t g, const Row& row, const leaf_scratch<B>& scratch) noexcept {
    const auto    size    = static_cast<float>(counts_[j]);
    const float*  squares = scratch.squares.data();
    const float*  means   = scratch.means.data();
    const index_t begin = shape_.group_edge(g), end = shape_.group_edge(g + 1);
    const auto    first = row(first_[j]);
    float         sum   = 0;
    for (index_t k = begin; k < end; ++k) {
      const float shift = means[k] - first[k];
      sum += squares[k] / size - shift * shift;
    }
    float variance = counts_[j] > 1 && sum > 0 ? sum / static_cast<float>(end - begin) : 0.0f;
    if (counts_[j] > 1 && !detail::is_finite(sum)) variance = variance_again(j, begin, end, row);
    variances_[panel_offset<B>(j, shape_.moments) + g * panel_keys<B>] = variance;
  }

  leaf_shape         shape_     = {};
  index_t            key_lanes_ = 0, value_stride_ = 0;
  index_t            count_ = 0, tokens_ = 0, chains_ = 0, begun_ = 0;  // begun_: chains that have tokens
  buffer<float, B>   keys_;                 // means, panels [key_lanes, panel_keys] of panel_keys leaves
  buffer<float, B>   values_;               // means, [lanes of leaves, value_stride]
  buffer<float, B>   variances_;            // panels [moments, panel_keys]
  buffer<float, B>   log_counts_, many_;    // [leaves]
  buffer<index_t, B> counts_;               // [leaves]
  buffer<index_t, B> first_, last_, next_;  // a leaf's tokens as a list: [leaves], [leaves], [T]
  buffer<index_t, B> growing_;              // [chains]: the leaf that a chain's next token goes to
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
