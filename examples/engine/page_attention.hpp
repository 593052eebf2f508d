#pragma once
// The baseline of decoding: exact attention to those pages of the cache whose keys might match a query best, as Quest
// chooses them (arXiv:2406.10774). For each page and KV head the smallest and the largest key are kept, column by
// column; with them, no key of a page can have a larger inner product with a query than
//   sum over columns c of max(q[c] smallest[c], q[c] largest[c]).

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "cascada/views.hpp"
#include "engine/matrix.hpp"

namespace engine {

struct page_settings {
  index_t tokens = 16;    // of a page
  float   read   = 0.3f;  // bytes of a step, the pages' bounds included, of dense attention's; one page at least
};

/// Of one layer's keys [tokens, kv_heads, dim].
class page_bounds {
 public:
  explicit page_bounds(index_t tokens_of_page = 16) : tokens_of_page_(tokens_of_page) {}

  index_t pages() const { return (tokens_ + tokens_of_page_ - 1) / tokens_of_page_; }

  /// Takes in the keys behind those that it knows.
  void extend(const cascada::heads_view<const float>& keys) {
    width_ = static_cast<std::size_t>(keys.heads) * static_cast<std::size_t>(keys.dim), dim_ = keys.dim;
    for (; tokens_ < keys.tokens; ++tokens_) {
      const bool begins = tokens_ % tokens_of_page_ == 0;
      if (begins) smallest_.resize(smallest_.size() + width_), largest_.resize(largest_.size() + width_);
      float *small = smallest_.data() + smallest_.size() - width_, *large = largest_.data() + largest_.size() - width_;
      for (index_t h = 0; h < keys.heads; ++h, small += dim_, large += dim_)
        for (index_t c = 0; c < dim_; ++c) {
          const float key = keys.row(tokens_, h)[c];
          small[c]        = begins ? key : std::min(small[c], key);
          large[c]        = begins ? key : std::max(large[c], key);
        }
    }
  }

  /// Forgets the keys from `end` on, and the other keys of its page.
  void keep_first(index_t end) {
    if (end >= tokens_) return;
    tokens_ = end - end % tokens_of_page_;
    smallest_.resize(static_cast<std::size_t>(pages()) * width_), largest_.resize(smallest_.size());
  }

  /// `count` pages of a KV head, ascending: the newest, and in turn the best of each of the queries [rows, dim] that is
  /// not among them.
  std::vector<index_t> choose(cascada::matrix_view<const float> queries, index_t kv_head, index_t count) const {
    const index_t                     all = pages();
    std::vector<std::vector<index_t>> ranked;
    for (index_t row = 0; row < queries.rows; ++row) ranked.push_back(rank(queries.row(row), kv_head));
    std::vector<bool> chosen(static_cast<std::size_t>(all));
    chosen.back() = true;
    std::vector<std::size_t> next(ranked.size());
    for (index_t left = std::min(count, all) - 1; left > 0;)
      for (std::size_t row = 0; row < ranked.size() && left > 0; ++row) {
        while (chosen[static_cast<std::size_t>(ranked[row][next[row]])]) ++next[row];
        chosen[static_cast<std::size_t>(ranked[row][next[row]])] = true, --left;
      }
    std::vector<index_t> list;
    for (index_t page = 0; page < all; ++page)
      if (chosen[static_cast<std::size_t>(page)]) list.push_back(page);
    return list;
  }

 private:
  /// All pages, those with the largest bound first.
  std::vector<index_t> rank(const float* query, index_t kv_head) const {
    std::vector<float> bounds;
    for (index_t page = 0; page < pages(); ++page) {
      const std::size_t at  = static_cast<std::size_t>(page) * width_ + static_cast<std::size_t>(kv_head * dim_);
      float             sum = 0;
      for (std::size_t c = 0; c < static_cast<std::size_t>(dim_); ++c)
        sum += std::max(query[c] * smallest_[at + c], query[c] * largest_[at + c]);
      bounds.push_back(sum);
    }
    std::vector<index_t> order(bounds.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) {
      return bounds[static_cast<std::size_t>(a)] > bounds[static_cast<std::size_t>(b)];
    });
    return order;
  }

  index_t            tokens_of_page_, tokens_ = 0, dim_ = 0;
  std::size_t        width_ = 0;           // of a token
  std::vector<float> smallest_, largest_;  // [pages, kv_heads, dim]
};

}  // namespace engine
