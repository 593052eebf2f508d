#include "engine/random_selection.hpp"

#include <algorithm>
#include <cstddef>

#include "cascada/eigen.hpp"

namespace engine {

void random_selection::draw(cascada::matrix_view<const float> x, index_t count, const backend& where) {
  sample(x.rows, count);
  assign(x, where);
  counts_.assign(indices_.size(), 0);
  for (const index_t member : rep_) ++counts_[static_cast<std::size_t>(place_[static_cast<std::size_t>(member)])];
}

void random_selection::sample(index_t tokens, index_t count) {
  indices_.assign(1, 0);
  place_.assign(static_cast<std::size_t>(tokens), 0);
  for (index_t t = 1; t < tokens; ++t) {
    const auto wanted = static_cast<std::uint64_t>(count) - indices_.size();
    if (random_() % static_cast<std::uint64_t>(tokens - t) >= wanted) continue;
    place_[static_cast<std::size_t>(t)] = static_cast<index_t>(indices_.size());
    indices_.push_back(t);
  }
}

void random_selection::assign(cascada::matrix_view<const float> x, const backend& where) {
  const matrix unit = cascada::as_eigen(x).rowwise().normalized();
  matrix       members(static_cast<index_t>(indices_.size()), x.cols);
  for (index_t j = 0; j < rows_of(members); ++j) members.row(j) = unit.row(indices_[static_cast<std::size_t>(j)]);

  rep_.resize(static_cast<std::size_t>(x.rows));
  for_pieces(x.rows, 128, where, [&](index_t begin, index_t length) {
    const auto   last    = std::upper_bound(indices_.begin(), indices_.end(), begin + length - 1);
    const auto   earlier = static_cast<index_t>(last - indices_.begin());
    const matrix cosine  = unit.middleRows(begin, length) * members.topRows(earlier).transpose();
    for (index_t i = 0; i < length; ++i) rep_[static_cast<std::size_t>(begin + i)] = nearest(cosine, i, begin + i);
  });
}

index_t random_selection::nearest(const matrix& cosine, index_t row, index_t token) const {
  if (indices_[static_cast<std::size_t>(place_[static_cast<std::size_t>(token)])] == token) return token;
  index_t best = 0;
  for (index_t j = 1; j < cols_of(cosine) && indices_[static_cast<std::size_t>(j)] < token; ++j)
    if (cosine(row, j) > cosine(row, best)) best = j;
  return indices_[static_cast<std::size_t>(best)];
}

}  // namespace engine
