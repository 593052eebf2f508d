#pragma once
// From token ids to rows.

#include <span>
#include <string>

#include "engine/error.hpp"
#include "engine/matrix.hpp"
#include "engine/stored_matrix.hpp"

namespace engine {

/// The rows of `table` [vocabulary, hidden] for tokens at positions first, first + 1, .. of a model that has
/// `positions` of them.
inline matrix embed(std::span<const index_t> tokens, const stored_matrix& table, index_t positions, index_t first = 0) {
  if (first + static_cast<std::int64_t>(tokens.size()) > positions)
    throw bad_input("the model has " + std::to_string(positions) + " positions, fewer than there are tokens");
  matrix x(static_cast<index_t>(tokens.size()), table.cols());
  for (index_t t = 0; t < rows_of(x); ++t) {
    const index_t id = tokens[static_cast<std::size_t>(t)];
    if (id < 0 || id >= table.rows()) throw bad_input("token id " + std::to_string(id) + " is not in the vocabulary");
    table.read_row(id, x.row(t).data());
  }
  return x;
}

}  // namespace engine
