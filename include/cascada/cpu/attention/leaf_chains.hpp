#pragma once
// Chains by keys: within a cluster, which tokens have keys that one leaf may stand for.
//
// A chain has an anchor, the key of its first member. A member of the cluster joins the chain whose anchor is nearest
// to its own key, of those that cover it at leaf_threshold; a tie goes to the older chain. If none does, it begins a
// chain. The verdict is the one of a selection (cascada/verdict.hpp), on the keys as they are. A key that is zero, or
// whose square is not finite, has a chain of its own.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "cascada/backend.hpp"
#include "cascada/cpu/attention/row_lanes.hpp"
#include "cascada/cpu/base/buffer.hpp"
#include "cascada/cpu/base/canonical.hpp"
#include "cascada/cpu/base/margin.hpp"
#include "cascada/cpu/base/product_tile.hpp"
#include "cascada/cpu/base/simd.hpp"

namespace cascada::inline CASCADA_ABI::kernel::attention {

/// The first tokens of chains, by number: with the clusters of all tokens, what chains grow on from.
template <cpu_backend B>
struct chain_leaders {
  buffer<index_t, B> tokens;  // [count]
  index_t            count = 0;
};

/// The chains of one KV head. A cluster's anchors lie in strips [key_dim, vec width] of its own, so that a token meets
/// as many anchors at a time as a vector has lanes, each by its canonical product.
template <cpu_backend B>
class leaf_chains {
 public:
  /// Room for `tokens` tokens, in as many clusters at most. Forgets the chains there are.
  void reserve(index_t tokens, index_t key_dim) {
    const std::int64_t strips  = std::int64_t{tokens} + tokens / width + 1;  // of each cluster the last may be ragged
    const std::int64_t anchors = std::int64_t{width} * key_dim;
    anchors_.reserve(strips * anchors);
    norms_.reserve(strips * width);
    chains_.reserve(strips * width);
    next_.reserve(strips);
    for (buffer<index_t, B>* of_clusters : {&first_, &last_, &sizes_, &at_hand_.heads}) of_clusters->reserve(tokens);
    leaders_.reserve(tokens);
    chain_of_.reserve(tokens);
    at_hand_.rows.reserve(std::int64_t{batch} * key_dim);
  }

  /// No chains, and no clusters. The first token to come is `begin`.
  void clear(index_t key_dim, float threshold, index_t begin) noexcept {
    key_dim_   = key_dim;
    threshold_ = threshold;
    count_ = strips_ = clusters_ = 0;
    tokens_                      = begin;
  }

  /// From now on there are `clusters` clusters, new ones without chains.
  void add_clusters(index_t clusters) noexcept {
    for (; clusters_ < clusters; ++clusters_)
      first_[clusters_] = at_hand_.heads[clusters_] = none, sizes_[clusters_] = 0;
  }

  /// Begins the chains that earlier tokens led, in clusters that are there. O(count d).
  template <class Key>
  void resume(const chain_leaders<B>& leaders, const index_t* clusters, const Key& key) noexcept {
    for (index_t begin = 0; begin < leaders.count; begin += batch) {
      const index_t* tokens = leaders.tokens.data() + begin;
      const index_t  count  = std::min(leaders.count - begin, +batch);
      load(count, [&](index_t i) { return key(tokens[i]); });
      for (index_t i = 0; i < count; ++i) append(clusters[tokens[i]], i, tokens[i]);
    }
  }

  /// Takes in the leaders of chains that are new.
  void put_leaders(chain_leaders<B>& leaders) const noexcept {
    if (leaders.count >= count_) return;
    std::copy(leaders_.data() + leaders.count, leaders_.data() + count_, leaders.tokens.data() + leaders.count);
    leaders.count = count_;
  }

  /// Adds tokens up to `end`, the next members of their clusters. A chain's number is only a name.
  template <class Key>
  void extend(const index_t* clusters, index_t end, const Key& key) noexcept {
    for (; tokens_ < end; tokens_ += std::min(end - tokens_, +batch)) {
      const index_t begin = tokens_, count = std::min(end - begin, +batch);
      load(count, [&](index_t i) { return key(begin + i); });
      index_t seen[batch], distinct = 0;  // clusters in the order of their first tokens
      index_t tails[batch];
      for (index_t i = 0; i < count; ++i) {
        index_t& head         = at_hand_.heads[clusters[begin + i]];
        at_hand_.following[i] = none;
        if (head == none) {
          seen[distinct] = clusters[begin + i];
          head           = i;
        } else {
          at_hand_.following[tails[at_hand_.places[head]]] = i;
        }
        if (head == i) at_hand_.places[i] = distinct++;
        tails[at_hand_.places[head]] = i;
      }
      for (index_t c = 0; c < distinct; ++c) {
        join_all(seen[c], at_hand_.heads[seen[c]], chain_of_.data() + begin);
        at_hand_.heads[seen[c]] = none;
      }
    }
  }

  /// [T]: the chain of each token that extend() added.
  CASCADA_INLINE const index_t* chain_of() const noexcept { return chain_of_.data(); }

 private:
  static constexpr index_t width = vec<B>::width, none = -1;
  static constexpr index_t batch = 128;  // tokens whose anchors are looked for together: at 64 columns, 32 KiB of keys

  struct nearest {
    index_t chain   = none;
    float   product = 0, norm = 0;
  };

  CASCADA_INLINE const float* row(index_t i) const noexcept {
    return at_hand_.rows.data() + std::int64_t{i} * key_dim_;
  }
  CASCADA_INLINE const float* anchors(index_t strip) const noexcept {
    return anchors_.data() + std::int64_t{strip} * key_dim_ * width;
  }

  /// Brings keys and their norms, 0 for those that have a chain of their own.
  template <class Key>
  void load(index_t count, const Key& key) noexcept {
    for (index_t i = 0; i < count; ++i) {
      const auto from = key(i);
      float*     to   = at_hand_.rows.data() + std::int64_t{i} * key_dim_;
      index_t    k    = 0;
      for (; k + width <= key_dim_; k += width) load_lanes<B, float>(from, k, key_dim_).store(to + k);
      for (; k < key_dim_; ++k) to[k] = from[k];
    }
    squares_of_rows<B>(
        0, count, key_dim_, [&](index_t i) { return row(i); }, [](index_t) { return std::int64_t{0}; },
        [&](index_t i, float square) { at_hand_.norms[i] = detail::norm_or(square, 0); });
  }

  /// The tokens of a cluster among those loaded, from `i` on.
  void join_all(index_t cluster, index_t i, index_t* chain) noexcept {
    constexpr index_t at_once = 4;  // with the strips below, eight sums: as many as multiply-adds in flight
    const index_t     before  = sizes_[cluster];
    index_t           old_end = last_[cluster];  // where the first new anchor goes, or before
    for (; i != none;) {
      index_t tokens[at_once], count = 0;
      nearest best[at_once] = {};
      for (; i != none && count < at_once; i = at_hand_.following[i]) {
        if (at_hand_.norms[i] > 0)
          tokens[count++] = i;
        else
          chain[i] = append(cluster, i, tokens_ + i);
      }
      switch (count) {
        case 1: search<1, 8>(cluster, before, tokens, best); break;
        case 2: search<2, 4>(cluster, before, tokens, best); break;
        case 3: search<3, 2>(cluster, before, tokens, best); break;
        case 4: search<4, 2>(cluster, before, tokens, best); break;
        default: break;
      }
      for (index_t t = 0; t < count; ++t) {
        if (sizes_[cluster] > before) search_new(cluster, before, old_end, tokens[t], best[t]);
        chain[tokens[t]] = best[t].chain == none ? append(cluster, tokens[t], tokens_ + tokens[t]) : best[t].chain;
      }
    }
  }

  /// The nearest of a cluster's first `count` anchors, for each of a few tokens.
  template <index_t Rows, index_t Strips>
  void search(index_t cluster, index_t count, const index_t* tokens, nearest* best) const noexcept {
    const float* rows[extent(Rows)];
    for (index_t r = 0; r < Rows; ++r) rows[r] = row(tokens[r]);
    for (index_t strip = first_[cluster]; count > 0; count -= Strips * width) {
      const float* columns[extent(Strips)];
      index_t      strips[extent(Strips)] = {};
      for (index_t p = 0; p < Strips; ++p) {
        const bool more = p * width < count;
        strips[p]       = more ? strip : strips[0];
        columns[p]      = anchors(strips[p]);
        if (more && (p + 1) * width < count) strip = next_[strip];
      }
      const auto products = multiply<Rows, Strips>(rows, columns);
      for (index_t p = 0; p < Strips && p * width < count; ++p)
        for (index_t r = 0; r < Rows; ++r)
          choose(tokens[r], strips[p], 0, std::min(count - p * width, +width), products.sum[r][p], best[r]);
    }
  }

  /// The same for the anchors after the first `before`, which strip `old_end` holds in part.
  void search_new(index_t cluster, index_t before, index_t old_end, index_t token, nearest& best) const noexcept {
    const bool   ragged = before % width != 0;
    index_t      strip  = ragged ? old_end : before == 0 ? first_[cluster] : next_[old_end];
    index_t      lane   = before % width;
    const float* rows[] = {row(token)};
    for (index_t left = lane + sizes_[cluster] - before; left > 0; left -= width, lane = 0) {
      const float* columns[] = {anchors(strip)};
      const auto   products  = multiply<1, 1>(rows, columns);
      choose(token, strip, lane, std::min(left, +width), products.sum[0][0], best);
      if (left > width) strip = next_[strip];
    }
  }

  template <index_t Rows, index_t Strips>
  CASCADA_INLINE product_tile<B, Rows, Strips> multiply(const float* const* rows,
                                                        const float* const* columns) const noexcept {
    product_tile<B, Rows, Strips> products;
    products.begin([](index_t, index_t) { return vec<B>::zero(); });
    products.template add<float>(0, key_dim_, rows, [&](index_t k, vec<B>(&column)[extent(Strips)]) {
#pragma GCC unroll 8
      for (index_t p = 0; p < Strips; ++p) column[p] = vec<B>::load(columns[p] + k * width);
    });
    return products;
  }

  /// The nearest of `best` and the anchors in lanes [begin, end) of a strip.
  CASCADA_INLINE void choose(index_t token, index_t strip, index_t begin, index_t end, vec<B> products,
                             nearest& best) const noexcept {
    const float   norm = at_hand_.norms[token], scaled = opaque<B>(threshold_ * norm);
    const float*  norms = norms_.data() + std::int64_t{strip} * width;
    std::uint32_t lanes = rows_that_may_cover<B>(scaled, norm, key_dim_, vec<B>::load(norms), products);
    lanes &= (std::uint32_t{1} << (end - 1)) * 2 - (std::uint32_t{1} << begin);
    if (lanes == 0) return;
    float values[extent(width)];
    products.store(values);
    for (; lanes != 0; lanes &= lanes - 1) {
      const index_t lane = __builtin_ctz(lanes);
      const float   product =
          B::has_fma ? values[lane] : canonical_product<B>(row(token), anchors(strip) + lane, key_dim_, width);
      if (!B::has_fma && !detail::covers(product, scaled, norms[lane])) continue;
      if (best.chain == none || detail::nearer(product, norms[lane], best.product, best.norm))
        best = {chains_[std::int64_t{strip} * width + lane], product, norms[lane]};
    }
  }

  /// Key i of those loaded begins a chain, which `leader` leads, and becomes an anchor unless it has a chain of its
  /// own. Returns the chain's number.
  index_t append(index_t cluster, index_t i, index_t leader) noexcept {
    leaders_[count_] = leader;
    if (at_hand_.norms[i] == 0) return count_++;
    const index_t lane = sizes_[cluster]++ % width;
    if (lane == 0) {
      const index_t fresh                                                 = strips_++;
      (first_[cluster] == none ? first_[cluster] : next_[last_[cluster]]) = fresh;
      last_[cluster]                                                      = fresh;
      std::fill_n(anchors_.data() + std::int64_t{fresh} * key_dim_ * width, key_dim_ * width, 0.0f);
      std::fill_n(norms_.data() + std::int64_t{fresh} * width, width, 0.0f);
    }
    const std::int64_t strip = last_[cluster];
    for (index_t k = 0; k < key_dim_; ++k) anchors_[(strip * key_dim_ + k) * width + lane] = row(i)[k];
    norms_[strip * width + lane]         = at_hand_.norms[i];
    return chains_[strip * width + lane] = count_++;
  }

  index_t            key_dim_ = 0, count_ = 0, strips_ = 0, tokens_ = 0, clusters_ = 0;
  buffer<index_t, B> chain_of_, leaders_;  // [T], [chains]
  float              threshold_ = 0;
  buffer<float, B>   anchors_, norms_;       // [strips, key_dim, width], [strips, width]
  buffer<index_t, B> chains_, next_;         // [strips, width], [strips]: the next strip of a cluster
  buffer<index_t, B> first_, last_, sizes_;  // [clusters]: strips, anchors

  /// Of the batch that is added.
  struct {
    buffer<float, B>   rows;  // [batch, key_dim]
    float              norms[batch];
    buffer<index_t, B> heads;  // [clusters]: the first of a cluster's tokens among them, or none
    index_t            following[batch], places[batch];
  } at_hand_;
};

}  // namespace cascada::inline CASCADA_ABI::kernel::attention
