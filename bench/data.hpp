#pragma once
// Token rows for the benchmarks, where no model's activations are at hand.

#include <cstdint>
#include <random>
#include <vector>

#include "cascada/config.hpp"

namespace bench {

using cascada::index_t;

/// Rows [tokens, cols] of one layer, without structure: all cosines are near 0, every token stays a representative.
inline void random_rows(index_t tokens, index_t cols, unsigned seed, float* rows) {
  std::mt19937                    random(seed);
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < std::int64_t{tokens} * cols; ++i) rows[i] = normal(random);
}

/// Rows [tokens, cols] of one layer: centre of a cluster + noise at cosine about 0.92 to each other, so that at tau 0.8
/// there is one representative per cluster. The layers of one seed share clusters and members. Every `stray`-th token
/// on average (0: none), others in each layer, has left its cluster.
inline void clustered_rows(index_t tokens, index_t cols, index_t clusters, index_t stray, unsigned seed, unsigned layer,
                           float* rows) {
  constexpr float                 spread = 0.3f;
  std::mt19937                    homes(seed), noise(seed * 7919 + layer + 1);
  std::normal_distribution<float> normal;
  std::vector<float>              centres(static_cast<std::size_t>(clusters) * static_cast<std::size_t>(cols));
  for (float& c : centres) c = normal(homes);
  for (index_t i = 0; i < tokens; ++i) {
    const auto   home   = static_cast<std::int64_t>(homes() % static_cast<unsigned>(clusters));
    const float* centre = centres.data() + home * cols;
    const bool   left   = stray > 0 && noise() % static_cast<unsigned>(stray) == 0;
    for (index_t c = 0; c < cols; ++c)
      rows[std::int64_t{i} * cols + c] = left ? normal(noise) : centre[c] + spread * normal(noise);
  }
}

}  // namespace bench
