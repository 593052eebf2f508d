#pragma once
// Chains by keys: within a cluster, which tokens have keys that one leaf may stand for.
//
// A chain has an anchor, the key of its first member. A member of the cluster joins the chain whose anchor is nearest
// to its own key, of those that cover it at leaf_threshold; a tie goes to the older chain. If none does, it begins a
// chain. The verdict is the one of a selection (gram.hpp), on the keys as they are.

#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/buffer.hpp"
#include "cascada/cpu/gram.hpp"
#include "cascada/cpu/simd.hpp"

namespace cascada::kernel {

/// The chains of one KV head, numbered by their first tokens. A cluster's anchors lie in panels [key_dim, vec width] of
/// its own, so that a token meets as many anchors at a time as a vector has lanes, each by the canonical chain of sums.
template <cpu_backend B>
class leaf_chains {
 public:
  /// For `tokens` tokens, in as many clusters at most.
  void reserve(index_t tokens, index_t key_dim) {
    const std::int64_t panels = std::int64_t{tokens} + tokens / width + 1;  // of each cluster the last may be ragged
    anchors_.reserve(panels * key_dim * width);
    norms_.reserve(panels * width);
    chains_.reserve(panels * width);
    next_.reserve(panels);
    first_.reserve(tokens);
    last_.reserve(tokens);
    sizes_.reserve(tokens);
    row_.reserve(key_dim);
  }

  /// No chains in any of `clusters` clusters.
  void clear(index_t clusters, index_t key_dim, float threshold) noexcept {
    key_dim_ = key_dim, threshold_ = threshold, count_ = 0, panels_ = 0;
    for (index_t j = 0; j < clusters; ++j) first_[j] = none, sizes_[j] = 0;
  }

  CASCADA_INLINE index_t count() const noexcept { return count_; }

  /// The chain of the next member of a cluster. A key that is zero, or whose square is not finite, has one of its own.
  template <class Row>
  index_t join(index_t cluster, const Row& key) noexcept {
    float square = 0;
    for (index_t k = 0; k < key_dim_; ++k) row_[k] = key[k];
    for (index_t k = 0; k < key_dim_; ++k) square = std::fma(row_[k], row_[k], square);
    if (!is_finite<B>(square) || square < 0x1p-60f) return count_++;
    const float norm   = norm_of<B>(square);
    const float scaled = opaque<B>(threshold_ * norm);
    nearest     best;
    for (index_t panel = first_[cluster], left = sizes_[cluster]; left > 0;) {
      const float*  anchors[at_once];
      index_t       panels[at_once];
      const index_t some = (left + width - 1) / width < at_once ? (left + width - 1) / width : +at_once;
      for (index_t p = 0; p < at_once; ++p) {
        panels[p]  = p == 0 ? panel : p < some ? next_[panels[p - 1]] : panels[p - 1];
        anchors[p] = anchors_.data() + std::int64_t{panels[p]} * key_dim_ * width;
      }
      vec<B> products[at_once];
      some > 1 ? multiply<at_once>(anchors, products) : multiply<1>(anchors, products);
      for (index_t p = 0; p < some; ++p, left -= width)
        choose(panels[p], left < width ? left : width, products[p], norm, scaled, best);
      panel = left > 0 ? next_[panels[some - 1]] : none;
    }
    if (best.chain == none) append(cluster, norm);
    return best.chain == none ? count_++ : best.chain;
  }

 private:
  static constexpr index_t width = vec<B>::width, none = -1;
  static constexpr index_t at_once = 4;  // panels: a sum waits for the one before it, so several take turns

  struct nearest {
    index_t chain   = none;
    float   product = 0, norm = 0;
  };

  template <index_t Count>
  CASCADA_INLINE void multiply(const float* const* anchors, vec<B>* products) const noexcept {
    vec<B> sum[Count];
    for (index_t p = 0; p < Count; ++p) sum[p] = vec<B>::zero();
    for (index_t k = 0; k < key_dim_; ++k) {
      const auto element = vec<B>::broadcast(row_[k]);
#pragma GCC unroll 4
      for (index_t p = 0; p < Count; ++p) sum[p] = multiply_add(element, vec<B>::load(anchors[p] + k * width), sum[p]);
    }
    for (index_t p = 0; p < Count; ++p) products[p] = sum[p];
  }

  /// The nearest of `best` and the first `count` anchors of a panel.
  void choose(index_t panel, index_t count, vec<B> products, float norm, float scaled, nearest& best) const noexcept {
    const float* norms = norms_.data() + std::int64_t{panel} * width;
    const auto   bound = vec<B>::broadcast(scaled) * vec<B>::load(norms);
    auto         low   = bound;
    if constexpr (!B::has_fma)  // products are estimates, of sums that may overflow
      low = low - vec<B>::broadcast(sum_margin<B>(key_dim_) * norm) * vec<B>::load(norms);
    std::uint32_t lanes = bits_less_equal(low, products);
    if constexpr (B::has_fma)
      lanes &= bits_less(vec<B>::zero(), products);
    else if (norm > largest_estimated_norm)
      lanes = ~std::uint32_t{0};
    else
      lanes |= bits_less(vec<B>::broadcast(largest_estimated_norm), vec<B>::load(norms));
    float values[width];
    products.store(values);
    for (lanes &= (std::uint32_t{1} << (count - 1)) * 2 - 1; lanes != 0; lanes &= lanes - 1) {
      const auto  lane    = static_cast<index_t>(__builtin_ctz(lanes));
      const float product = B::has_fma ? values[lane] : canonical(panel, lane);
      if (!B::has_fma && !covers<B>(product, scaled, norms[lane])) continue;
      // Exact: in double, the product of two floats is not rounded.
      const bool nearer =
          best.chain == none || double{product} * double{best.norm} > double{best.product} * double{norms[lane]};
      if (nearer) best = {chains_[std::int64_t{panel} * width + lane], product, norms[lane]};
    }
  }

  float canonical(index_t panel, index_t lane) const noexcept {
    const float* column = anchors_.data() + std::int64_t{panel} * key_dim_ * width + lane;
    float        sum    = 0;
    for (index_t k = 0; k < key_dim_; ++k) sum = std::fma(row_[k], column[k * width], sum);
    return sum;
  }

  /// The present row becomes the anchor of chain count_.
  void append(index_t cluster, float norm) noexcept {
    const index_t lane = sizes_[cluster]++ % width;
    if (lane == 0) {
      const index_t fresh                                                 = panels_++;
      (first_[cluster] == none ? first_[cluster] : next_[last_[cluster]]) = fresh;
      last_[cluster]                                                      = fresh;
      for (index_t k = 0; k < key_dim_ * width; ++k) anchors_[std::int64_t{fresh} * key_dim_ * width + k] = 0;
      for (index_t i = 0; i < width; ++i) norms_[std::int64_t{fresh} * width + i] = 0;
    }
    const std::int64_t panel = last_[cluster];
    for (index_t k = 0; k < key_dim_; ++k) anchors_[(panel * key_dim_ + k) * width + lane] = row_[k];
    norms_[panel * width + lane]  = norm;
    chains_[panel * width + lane] = count_;
  }

  index_t            key_dim_ = 0, count_ = 0, panels_ = 0;
  float              threshold_ = 0;
  buffer<float, B>   anchors_, norms_;       // [panels, key_dim, width], [panels, width]
  buffer<index_t, B> chains_, next_;         // [panels, width], [panels]: the next panel of a cluster
  buffer<index_t, B> first_, last_, sizes_;  // [clusters]: panels, anchors
  buffer<float, B>   row_;                   // [key_dim]: the key at hand
};

}  // namespace cascada::kernel
