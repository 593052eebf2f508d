#pragma once
// Rows that come one after the other: a sequence's keys, values, or residual stream.

#include <cstddef>
#include <vector>

#include "cascada/views.hpp"
#include "engine/matrix.hpp"

namespace engine {

class row_store {
 public:
  index_t rows() const { return rows_; }

  void append(const matrix& more) {
    width_ = cols_of(more);
    data_.insert(data_.end(), more.data(), more.data() + more.size());
    rows_ += rows_of(more);
  }

  /// Forgets all rows but the first `count`.
  void keep_first(index_t count) {
    data_.resize(size_of(count));
    rows_ = count;
  }

  /// Forgets the first `count` rows.
  void drop_first(index_t count) {
    data_.erase(data_.begin(), data_.begin() + static_cast<std::ptrdiff_t>(size_of(count)));
    rows_ -= count;
  }

  /// The first `count` rows.
  cascada::matrix_view<const float> first(index_t count) const { return {data_.data(), count, width_, width_}; }

  /// All rows, each of `count` heads.
  cascada::heads_view<const float> heads(index_t count) const {
    return cascada::packed_heads(data_.data(), rows_, count, width_ / count);
  }

 private:
  std::size_t size_of(index_t rows) const { return static_cast<std::size_t>(rows) * static_cast<std::size_t>(width_); }

  std::vector<float> data_;
  index_t            rows_ = 0, width_ = 0;
};

}  // namespace engine
