#include "engine/random_selection.hpp"

#include <algorithm>
#include <cstddef>

#include "cascada/eigen.hpp"

namespace engine {

void random_selection::draw(cascada::matrix_view<const float> x, index_t count, const backend& where) {
  sample(x.rows, count);
  assign(x, where);
  kept_.counts.assign(kept_.indices.size(), 0);
  for (const index_t member : kept_.rep)
    ++kept_.counts[static_cast<std::size_t>(place_[static_cast<std::size_t>(member)])];
}

void random_selection::sample(index_t tokens, index_t count) {
  kept_.indices.assign(1, 0);
  place_.assign(static_cast<std::size_t>(tokens), 0);
  for (index_t t = 1; t < tokens; ++t) {
    const auto wanted = static_cast<std::uint64_t>(count) - kept_.indices.size();
    if (random_() % static_cast<std::uint64_t>(tokens - t) >= wanted) continue;
    place_[static_cast<std::size_t>(t)] = static_cast<index_t>(kept_.indices.size());
    kept_.indices.push_back(t);
  }
}

void random_selection::assign(cascada::matrix_view<const float> x, const backend& where) {
  const matrix unit = cascada::as_eigen(x).rowwise().normalized();
  matrix       members(static_cast<index_t>(kept_.indices.size()), x.cols);
  for (index_t j = 0; j < rows_of(members); ++j) members.row(j) = unit.row(kept_.indices[static_cast<std::size_t>(j)]);

  kept_.rep.resize(static_cast<std::size_t>(x.rows));
  for_pieces(x.rows, 128, where, [&](index_t begin, index_t length) {
    const auto   last    = std::upper_bound(kept_.indices.begin(), kept_.indices.end(), begin + length - 1);
    const auto   earlier = static_cast<index_t>(last - kept_.indices.begin());
    const matrix cosine  = unit.middleRows(begin, length) * members.topRows(earlier).transpose();
    for (index_t i = 0; i < length; ++i) kept_.rep[static_cast<std::size_t>(begin + i)] = nearest(cosine, i, begin + i);
  });
}

index_t random_selection::nearest(const matrix& cosine, index_t row, index_t token) const {
  if (kept_.indices[static_cast<std::size_t>(place_[static_cast<std::size_t>(token)])] == token) return token;
  index_t best = 0;
  for (index_t j = 1; j < cols_of(cosine) && kept_.indices[static_cast<std::size_t>(j)] < token; ++j)
    if (cosine(row, j) > cosine(row, best)) best = j;
  return kept_.indices[static_cast<std::size_t>(best)];
}

}  // namespace engine
