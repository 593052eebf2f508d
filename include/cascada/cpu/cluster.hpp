#pragma once
// Summaries of clusters: count, mean key and mean value, kept up to date as tokens grow old.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cascada/backend.hpp"
#include "cascada/cluster.hpp"
#include "cascada/cpu/attention_rows.hpp"
#include "cascada/cpu/bf16_pairs.hpp"
#include "cascada/cpu/buffer.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/scalar.hpp"

namespace cascada::inline CASCADA_ABI::kernel {

/// Clusters with the memory behind them.
template <cpu_backend B>
class cluster_lists {
 public:
  void reserve(index_t tokens) {
    slots_.reserve(tokens);
    offsets_.reserve(std::int64_t{tokens} + 1);
    members_.reserve(tokens);
  }

  clusters list(const representatives& state) noexcept {
    return list_clusters(state, slots_.data(), offsets_.data(), members_.data());
  }

 private:
  buffer<index_t, B> slots_, offsets_, members_;
};

/// The clusters of one KV head over a growing prefix of the tokens. Sums run in token order and no token is summed
/// twice, so a summary depends on its members alone, not on how the prefix grew.
template <cpu_backend B, class E = float>
class cluster_summaries {
 public:
  void reserve(index_t clusters, index_t key_dim, index_t value_dim) {
    const std::int64_t blocks = (std::int64_t{clusters} + block_keys<B> - 1) / block_keys<B>;
    const std::int64_t room   = blocks * block_keys<B>;
    key_sums_.reserve(room * key_dim);
    value_sums_.reserve(room * value_dim);
    keys_.reserve(room * lanes_of<B, E>(key_dim));
    values_.reserve(room / elements_per_lane<E> * whole_vectors<B>(value_dim));
    log_counts_.reserve(room);
    counts_.reserve(room);
    updated_.reserve(room);
  }

  /// No clusters, no tokens.
  void clear(index_t key_dim, index_t value_dim) noexcept {
    key_dim_ = key_dim, value_dim_ = value_dim;
    key_lanes_ = lanes_of<B, E>(key_dim), value_stride_ = whole_vectors<B>(value_dim);
    count_ = 0, tokens_ = 0;
  }

  /// Adds tokens [tokens(), end): token t, a member of cluster slots[t], has the rows key(t) and value(t).
  template <class Key, class Value>
  void extend(const index_t* slots, index_t end, const Key& key, const Value& value) noexcept {
    for (index_t t = tokens_; t < end; ++t) {
      if (slots[t] == count_) open();
      ++counts_[slots[t]];
      add(key(t), key_dim_, key_sums_.data() + std::int64_t{slots[t]} * key_dim_);
      add(value(t), value_dim_, value_sums_.data() + std::int64_t{slots[t]} * value_dim_);
    }
    for (index_t t = tokens_; t < end; ++t) {
      if (updated_[slots[t]] != end) update(slots[t]);
      updated_[slots[t]] = end;
    }
    tokens_ = end;
  }

  CASCADA_INLINE index_t        count() const noexcept { return count_; }  // clusters with members among the tokens
  CASCADA_INLINE index_t        tokens() const noexcept { return tokens_; }
  CASCADA_INLINE index_t        size(index_t cluster) const noexcept { return counts_[cluster]; }
  CASCADA_INLINE const index_t* sizes() const noexcept { return counts_.data(); }  // zero up to a whole block

  /// Up to step_keys clusters from `first`, a multiple of block_keys: mean keys, mean values, log2 of the counts as
  /// bias. Beyond them, up to a whole block, keys are zero; so are values in pairs.
  CASCADA_INLINE key_block block(index_t first) const noexcept {
    constexpr index_t step  = step_keys<B, E>;
    const index_t     count = count_ - first < step ? count_ - first : step;
    return {.keys   = keys_.data() + std::int64_t{first} * key_lanes_,
            .values = values_.data() + std::int64_t{first / elements_per_lane<E>} * value_stride_,
            .bias   = log_counts_.data() + first,
            .count  = count,
            .seen   = count};
  }

 private:
  void open() noexcept {
    const index_t j = count_++;
    if (j % block_keys<B> == 0) {  // what is not in use yet stays zero
      constexpr index_t block = block_keys<B>, rows = block / elements_per_lane<E>;
      std::memset(keys_.data() + std::int64_t{j} * key_lanes_, 0,
                  static_cast<std::size_t>(key_lanes_) * block * sizeof(float));
      std::memset(values_.data() + std::int64_t{j / elements_per_lane<E>} * value_stride_, 0,
                  static_cast<std::size_t>(value_stride_) * rows * sizeof(float));
      std::memset(counts_.data() + j, 0, block_keys<B> * sizeof(index_t));
    }
    std::memset(key_sums_.data() + std::int64_t{j} * key_dim_, 0, static_cast<std::size_t>(key_dim_) * sizeof(float));
    std::memset(value_sums_.data() + std::int64_t{j} * value_dim_, 0,
                static_cast<std::size_t>(value_dim_) * sizeof(float));
    updated_[j] = 0;
  }

  template <class Row>
  static void add(const Row& row, index_t dim, float* sums) noexcept {
    for (index_t c = 0; c < dim; ++c) sums[c] += row[c];
  }

  void update(index_t j) noexcept {
    const auto   size   = static_cast<float>(counts_[j]);
    const float* keys   = key_sums_.data() + std::int64_t{j} * key_dim_;
    const float* values = value_sums_.data() + std::int64_t{j} * value_dim_;
    float*       column = keys_.data() + panel_offset<B>(j, key_lanes_);
    float*       row    = values_.data() + std::int64_t{j / elements_per_lane<E>} * value_stride_;
    for (index_t k = 0; k < key_dim_; ++k) {
      const std::int64_t lane = std::int64_t{k / elements_per_lane<E>} * block_keys<B>;
      set_mean(column, lane, k % elements_per_lane<E>, keys[k] / size);
    }
    for (index_t c = 0; c < value_dim_; ++c) set_mean(row, c, j % elements_per_lane<E>, values[c] / size);
    log_counts_[j] = std::log2(size);
  }

  /// A float, or one element of a pair, rounded.
  static void set_mean(float* lanes, std::int64_t lane, [[maybe_unused]] index_t element, float mean) noexcept {
    if constexpr (std::same_as<E, float>)
      lanes[lane] = mean;
    else
      set_element(lanes, 2 * lane + element, from_float<bfloat16>(mean));
  }

  index_t            key_dim_ = 0, value_dim_ = 0, key_lanes_ = 0, value_stride_ = 0;
  index_t            count_ = 0, tokens_ = 0;
  buffer<float, B>   key_sums_, value_sums_;  // [r, key_dim], [r, value_dim]
  buffer<float, B>   keys_;                   // means, panels [key_lanes, block_keys] of block_keys clusters
  buffer<float, B>   values_;                 // means, [lanes of r, value_stride]
  buffer<float, B>   log_counts_;             // [r]
  buffer<index_t, B> counts_, updated_;       // [r]; the prefix at which a mean was last taken
};

/// Keys and values of a growing prefix of the tokens in the order of the clusters: members[place] has its rows at
/// `place`, as floats or pairs on whole vectors, zero beyond their width. A cluster's tokens are read in a run, and one
/// way, whatever the layout and the type they came in.
template <cpu_backend B, class E = float>
class cluster_rows {
 public:
  void reserve(index_t tokens, index_t key_dim, index_t value_dim) {
    keys_.reserve(std::int64_t{tokens} * stride_of(key_dim));
    values_.reserve(std::int64_t{tokens} * stride_of(value_dim));
    places_.reserve(tokens);
    owners_.reserve(tokens);
  }

  /// No tokens.
  void clear(const clusters& lists, index_t key_dim, index_t value_dim) noexcept {
    key_dim_ = key_dim, value_dim_ = value_dim, tokens_ = 0;
    for (index_t j = 0; j < lists.count(); ++j) {
      places_[j] = lists.begin(j);
      for (index_t place = lists.begin(j); place < lists.end(j); ++place) owners_[place] = j;
    }
  }

  /// Adds tokens [tokens(), end), as cluster_summaries does.
  template <class Key, class Value>
  void extend(const index_t* slots, index_t end, const Key& key, const Value& value) noexcept {
    for (; tokens_ < end; ++tokens_) {
      const index_t place = places_[slots[tokens_]]++;
      copy(key(tokens_), key_dim_, keys_.data() + std::int64_t{place} * key_stride());
      copy(value(tokens_), value_dim_, values_.data() + std::int64_t{place} * value_stride());
    }
  }

  CASCADA_INLINE index_t      key_stride() const noexcept { return stride_of(key_dim_); }
  CASCADA_INLINE index_t      value_stride() const noexcept { return stride_of(value_dim_); }
  CASCADA_INLINE const float* keys() const noexcept { return keys_.data(); }
  CASCADA_INLINE const float* values() const noexcept { return values_.data(); }
  CASCADA_INLINE index_t      value_dim() const noexcept { return value_dim_; }
  CASCADA_INLINE void         prefetch_value(index_t place) const noexcept {
            const float* row = values_.data() + std::int64_t{place} * value_stride();
            for (index_t c = 0; c < value_stride(); c += 64 / static_cast<index_t>(sizeof(float)))
      __builtin_prefetch(row + c, 0, 2);
  }
  /// Of pairs.
  CASCADA_INLINE strided_row<bfloat16> value(index_t place) const noexcept {
    return {reinterpret_cast<const bfloat16*>(values_.data() + std::int64_t{place} * value_stride()), 1};
  }
  CASCADA_INLINE index_t owner(index_t place) const noexcept { return owners_[place]; }  // its cluster

 private:
  static index_t stride_of(index_t dim) noexcept { return whole_vectors<B>(lanes_of<B, E>(dim)); }

  template <class Row>
  static void copy(const Row& row, index_t dim, float* to) noexcept {
    if constexpr (std::same_as<E, float>) {
      const index_t stride = stride_of(dim);
      for (index_t c = 0; c < dim; ++c) to[c] = row[c];
      for (index_t c = dim; c < stride; ++c) to[c] = 0;
    } else {
      for (index_t c = 0; c < stride_of(dim); c += vec<B>::width) load_lanes<B, E>(row, c, dim).store(to + c);
    }
  }

  index_t            key_dim_ = 0, value_dim_ = 0, tokens_ = 0;
  buffer<float, B>   keys_, values_;  // [T, key_stride], [T, value_stride], in lanes
  buffer<index_t, B> places_;         // [r]: of a cluster's next token
  buffer<index_t, B> owners_;         // [T]: the cluster of a place
};

}  // namespace cascada::inline CASCADA_ABI::kernel
