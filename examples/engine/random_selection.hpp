#pragma once
// The baseline of every selection: representatives drawn at random.

#include <cstdint>
#include <random>
#include <vector>

#include "cascada/owned_representatives.hpp"
#include "engine/matrix.hpp"

namespace engine {

/// Token 0 and uniform draws from the others; every token belongs to the nearest (largest cosine) member at or before
/// it, ties to the lower index.
class random_selection {
 public:
  explicit random_selection(std::uint64_t seed) : random_(seed) {}

  /// Draws `count` >= 1 members for the rows of x [T, d]; T >= count.
  void draw(cascada::matrix_view<const float> x, index_t count, const backend& where);

  cascada::representatives kept() const { return kept_.view(); }

 private:
  /// Selection sampling (Knuth, algorithm S): ascending, and the same with every standard library.
  void sample(index_t tokens, index_t count);

  void assign(cascada::matrix_view<const float> x, const backend& where);

  index_t nearest(const matrix& cosine, index_t row, index_t token) const;

  std::mt19937_64                random_;
  cascada::owned_representatives kept_;
  std::vector<index_t>           place_;  // [T] of a member: where it stands in kept_.indices
};

}  // namespace engine
