#pragma once
// Leaves: a few tokens of one chain, with what stands for them: count, mean key, mean value, variances of the keys.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cascada/attention_options.hpp"
#include "cascada/backend.hpp"
#include "cascada/cpu/attention/key_block.hpp"
#include "cascada/cpu/attention/leaf_statistics.hpp"
#include "cascada/cpu/attention/prefetch.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/lanes.hpp"
#include "cascada/cpu/base/simd.hpp"
#include "cascada/finite.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// Shapes of the leaves of a KV head.
struct leaf_shape {
  index_t      key_dim = 0, value_dim = 0;
  index_t      size    = std::numeric_limits<index_t>::max();  // tokens of a leaf at most
  index_t      moments = 0;                                    // groups of key dimensions, 0 to key_dim
  index_t      sinks   = 0;                                    // first tokens, which belong to no leaf
  summary_type kept    = summary_type::as_multiplied;          // what means are

  /// Where group g of the key dimensions begins.
  CASCADA_INLINE index_t group_edge(index_t g) const noexcept {
    return static_cast<index_t>(std::int64_t{g} * key_dim / moments);
  }
};

/// What a call needs to sum up a leaf at a time.
template <cpu_backend B>
struct leaf_scratch {
  leaf_statistics<B> leaf;
  buffer<index_t, B> touched;  // [leaves]: those that an extension gave members

  void reserve(index_t tokens, const leaf_shape& shape) {
    leaf.reserve(shape.key_dim > shape.value_dim ? shape.key_dim : shape.value_dim);
    touched.reserve(tokens);
  }
};

/// The leaves of one KV head over a growing prefix of the tokens, numbered by their first tokens. A leaf that gets
/// members is summed anew, in token order, from the rows of all of them: it depends on its members alone, not on how
/// the prefix grew, and no sums are kept, which would be more than half of the memory.
///
/// Means are in lanes of E or, as the shape says, in pairs, or in fours of bytes with a scale for each mean.
template <cpu_backend B, class E = float>
class leaf_summaries {
 public:
  leaf_summaries()                                     = default;
  leaf_summaries(leaf_summaries&&) noexcept            = default;
  leaf_summaries& operator=(leaf_summaries&&) noexcept = default;
  /// A copy has as much room; what no leaf uses is not touched.
  leaf_summaries(const leaf_summaries& other)
      : shape_(other.shape_),
        key_lanes_(other.key_lanes_),
        value_stride_(other.value_stride_),
        count_(other.count_),
        tokens_(other.tokens_),
        chains_(other.chains_),
        begun_(other.begun_) {
    other.for_each_buffer(other.tokens_, other.shape_, [&]<class Values>(Values leaf_summaries::* of, auto, auto used) {
      this->*of = Values(other.*of, used);
    });
  }
  leaf_summaries& operator=(const leaf_summaries& other) {
    *this = leaf_summaries(other);
    return *this;
  }

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
    for (index_t i = 0; i < touched; ++i) {
      if (i + 1 < touched) prefetch(members(scratch.touched[i + 1]), key, value);
      update(scratch.touched[i], key, value, scratch.leaf);
    }
  }

  /// Memory that the leaves use.
  std::size_t bytes() const noexcept {
    const std::int64_t scales = shape_.kept == summary_type::bytes ? 2 : 0;
    const std::int64_t a_leaf = key_lanes_ + value_stride_ / elements() + shape_.moments + 2 + 3 + scales;
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
    return {.keys   = keys_.data() + std::int64_t{first} * key_lanes_,
            .values = values_.data() + std::int64_t{first / elements()} * value_stride_,
            .bias   = log_counts_.data() + first,
            .count  = count,
            .seen   = count,
            .kept   = shape_.kept};
  }

  /// Group g's variances of a vector of leaves from `first`.
  CASCADA_INLINE vec<B> variances(index_t group, index_t first) const noexcept {
    return vec<B>::load(variances_.data() + panel_offset<B>(first, shape_.moments) + group * panel_keys<B>);
  }
  CASCADA_INLINE const float* log_counts() const noexcept { return log_counts_.data(); }
  /// What integers of a leaf's mean key, and of its mean value, are multiplied with.
  CASCADA_INLINE const float* key_scales() const noexcept { return key_scales_.data(); }
  CASCADA_INLINE const float* value_scales() const noexcept { return value_scales_.data(); }
  /// 1 for leaves of several tokens, 0 for those of one: lanes, in whole blocks.
  CASCADA_INLINE const float* many() const noexcept { return many_.data(); }

 private:
  static constexpr index_t     width = vec<B>::width, none = -1;
  static constexpr std::int8_t excess = std::same_as<E, float> ? 0 : 64;  // see byte_four

  static constexpr index_t elements_of(const leaf_shape& shape) noexcept {
    if (shape.kept == summary_type::bytes) return elements_per_lane<byte_four>;
    return shape.kept == summary_type::bfloat16 ? elements_per_lane<bf16_pair> : elements_per_lane<E>;
  }
  /// Means in a lane.
  CASCADA_INLINE index_t elements() const noexcept { return elements_of(shape_); }
  static index_t         key_lanes(const leaf_shape& shape) noexcept {
    const index_t lanes = lanes_of<B, E>(shape.key_dim);
    if (shape.kept == summary_type::bytes) return stored_lanes<E, byte_four>(lanes);
    if constexpr (std::same_as<E, float>)
      if (shape.kept == summary_type::bfloat16) return stored_lanes<E, bf16_pair>(lanes);
    return lanes;
  }

  void make_room(index_t tokens, const leaf_shape& shape) {
    for_each_buffer(tokens, shape, [&](auto of, auto room, auto used) { (this->*of).grow(room, used); });
  }

  /// use(member, values that `tokens` tokens in as many leaves take, values in use).
  template <class Use>
  void for_each_buffer(index_t tokens, const leaf_shape& shape, const Use& use) const {
    const std::int64_t room = whole_panels<B>(tokens), used = whole_panels<B>(count_);
    const auto         of_leaves = [&](auto of, std::int64_t values) { use(of, room * values, used * values); };
    of_leaves(&leaf_summaries::keys_, key_lanes(shape));
    const auto values = std::int64_t{whole_vectors<B>(shape.value_dim)};
    use(&leaf_summaries::values_, room / elements_of(shape) * values, used / elements_of(shape) * values);
    of_leaves(&leaf_summaries::variances_, shape.moments);
    for (auto of : {&leaf_summaries::log_counts_, &leaf_summaries::many_}) of_leaves(of, 1);
    for (auto of : {&leaf_summaries::key_scales_, &leaf_summaries::value_scales_})
      of_leaves(of, shape.kept == summary_type::bytes ? 1 : 0);
    for (auto of : {&leaf_summaries::counts_, &leaf_summaries::first_, &leaf_summaries::last_}) of_leaves(of, 1);
    use(&leaf_summaries::next_, std::int64_t{tokens}, std::int64_t{tokens_});
    use(&leaf_summaries::growing_, std::int64_t{tokens}, std::int64_t{chains_});
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
      if (shape_.kept == summary_type::bytes)
        clear(key_scales_.data() + j, block), clear(value_scales_.data() + j, block);
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

  CASCADA_INLINE leaf_members members(index_t j) const noexcept { return {first_[j], counts_[j], next_.data()}; }

  /// Asks for the first rows of a leaf's members.
  template <class Key, class Value>
  void prefetch(leaf_members of, const Key& key, const Value& value) const noexcept {
    of.count = of.count < rows_ahead ? of.count : rows_ahead;
    of.for_each([&](index_t t) { prefetch_row(key(t), shape_.key_dim), prefetch_row(value(t), shape_.value_dim); });
  }

  /// What stands for a leaf, anew from its members.
  template <class Key, class Value>
  void update(index_t j, const Key& key, const Value& value, leaf_statistics<B>& leaf) noexcept {
    const leaf_members of = members(j);
    if (shape_.moments > 0)
      leaf.template take<true>(of, shape_.key_dim, key);
    else
      leaf.template take<false>(of, shape_.key_dim, key);
    for (index_t g = 0; g < shape_.moments; ++g)
      variances_[panel_offset<B>(j, shape_.moments) + g * panel_keys<B>] =
          leaf.variance(of, shape_.group_edge(g), shape_.group_edge(g + 1), key);
    store_key(j, leaf);

    leaf.template take<false>(of, shape_.value_dim, value);
    store_value(j, leaf);
    log_counts_[j]      = std::log2(static_cast<float>(counts_[j]));
    const float several = counts_[j] > 1 ? 1.0f : 0.0f;
    if constexpr (std::same_as<E, float>)
      many_[j] = several;
    else
      set_element(many_.data(), j, from_float<bfloat16>(several));
  }

  void store_key(index_t j, leaf_statistics<B>& leaf) noexcept {
    float* const  column = keys_.data() + panel_offset<B>(j, key_lanes_);
    const index_t dim    = shape_.key_dim;
    if (elements() == 1) {
      for (index_t k = 0; k < dim; ++k) column[std::int64_t{k} * panel_keys<B>] = leaf.means()[k];
      return;
    }
    if (shape_.kept == summary_type::bytes) {
      const std::int8_t* const integers = leaf.byte_means(dim, excess, key_scales_[j]);
      for (index_t k = 0; k < dim; k += 4)
        std::memcpy(column + std::int64_t{k / 4} * panel_keys<B>, integers + k, sizeof(byte_four));
      return;
    }
    const bfloat16* const means = leaf.rounded_means(dim);
    for (index_t k = 0; k < dim; k += 2) {
      const bfloat16 pair[2] = {means[k], k + 1 < dim ? means[k + 1] : bfloat16{}};
      std::memcpy(column + std::int64_t{k / 2} * panel_keys<B>, pair, sizeof pair);
    }
  }

  void store_value(index_t j, leaf_statistics<B>& leaf) noexcept {
    float* const row = values_.data() + std::int64_t{j / elements()} * value_stride_;
    if (elements() == 1) {
      for (index_t c = 0; c < value_stride_; c += width) vec<B>::load(leaf.means() + c).store(row + c);
      return;
    }
    if (shape_.kept == summary_type::bytes) {
      const std::int8_t* const integers = leaf.byte_means(shape_.value_dim, excess, value_scales_[j]);
      // A weight that is multiplied with infinity spoils all columns.
      if (!detail::is_finite(value_scales_[j])) value_scales_[j] = std::numeric_limits<float>::quiet_NaN();
      for (index_t c = 0; c < shape_.value_dim; ++c)
        std::memcpy(reinterpret_cast<char*>(row + c) + j % 4, integers + c, 1);
      return;
    }
    const bfloat16* const means = leaf.rounded_means(shape_.value_dim);
    for (index_t c = 0; c < shape_.value_dim; ++c) set_element(row, 2 * std::int64_t{c} + j % 2, means[c]);
  }

  leaf_shape         shape_     = {};
  index_t            key_lanes_ = 0, value_stride_ = 0;
  index_t            count_ = 0, tokens_ = 0, chains_ = 0, begun_ = 0;  // begun_: chains that have tokens
  buffer<float, B>   keys_;                       // means, panels [key_lanes, panel_keys] of panel_keys leaves
  buffer<float, B>   values_;                     // means, [lanes of leaves, value_stride]
  buffer<float, B>   variances_;                  // panels [moments, panel_keys]
  buffer<float, B>   log_counts_, many_;          // [leaves]
  buffer<float, B>   key_scales_, value_scales_;  // [leaves], of bytes
  buffer<index_t, B> counts_;                     // [leaves]
  buffer<index_t, B> first_, last_, next_;        // a leaf's tokens as a list: [leaves], [leaves], [T]
  buffer<index_t, B> growing_;                    // [chains]: the leaf that a chain's next token goes to
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
